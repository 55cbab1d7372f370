// Checks the page in the system's Chromium, against the real binary and agents made for it:
//
//     tests/in_node browser target/debug/baton [NAME…]
//
// With names, only what has one of them in its title. BATON_SCREENSHOTS names a folder that keeps what `looks.mjs` sees.

import { after } from "node:test";
import { endAll } from "./rig.mjs";

after(endAll);
await import("./entering.mjs");
await import("./life.mjs");
await import("./steering.mjs");
await import("./connection.mjs");
await import("./hostile.mjs");
await import("./inbox.mjs");
await import("./health.mjs");
await import("./looks.mjs");
