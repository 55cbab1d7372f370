// Makes ../assets/vendor.js, vendor.css and vendor.licences.txt of pinned packages:
//
//     npm ci && node build.mjs           writes them
//     npm ci && node build.mjs --check   ends with 1 unless they are what would be written
import { readFileSync, writeFileSync } from "node:fs";
import { build } from "esbuild";

const packages = ["preact", "htm", "d3-hierarchy", "uplot"];
const read = (path) => readFileSync(new URL(path, import.meta.url), "utf8");

const bundled = await build({
  entryPoints: [new URL("entry.js", import.meta.url).pathname],
  bundle: true, format: "esm", minify: true, target: "es2022", legalComments: "none", write: false,
});
const licences = packages.map((name) => {
  const { version, license } = JSON.parse(read(`node_modules/${name}/package.json`));
  return `${name} ${version} (${license})\n\n${read(`node_modules/${name}/LICENSE`).trim()}\n`;
});
const made = {
  "vendor.js": bundled.outputFiles[0].text,
  "vendor.css": read("node_modules/uplot/dist/uPlot.min.css").trim() + "\n",
  "vendor.licences.txt": licences.join("\n----\n\n"),
};
let stale = 0;
for (const [name, text] of Object.entries(made)) {
  const place = new URL(`../assets/${name}`, import.meta.url);
  if (!process.argv.includes("--check")) {
    writeFileSync(place, text);
  } else if (readFileSync(place, "utf8") !== text) {
    console.error(`src/web/assets/${name} is not what src/web/vendor makes: run node src/web/vendor/build.mjs`);
    stale = 1;
  }
}
process.exit(stale);
