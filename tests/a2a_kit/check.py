"""Runs the official A2A conformance kit against a workspace, whose agent is one of the reference SDK.

    BATON_A2A_KIT=…/a2a-tck tests/in_python a2a_kit BINARY [KIT_ARGUMENT …]

The kit is a checkout of the branch 1.0-dev or 0.3.x, kept outside of this repository. It knows no credentials, so that a proxy puts the
caller's bearer into each request. Ends with the kit's own status, and leaves its reports in its folder `reports`.
"""

import http.client
import http.server
import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request

ADMIN = "admin-token-of-the-check"
HERE = pathlib.Path(__file__).resolve().parent


def proxy_to(address, token, below):
    """Passes everything on to a server, with a bearer: to `below`, what names no workspace."""

    class Proxy(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def pass_on(self):
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            headers = {name: value for name, value in self.headers.items() if name.lower() != "connection"}
            headers["Authorization"] = f"Bearer {token}"
            there = http.client.HTTPConnection(address, timeout=120)
            path = self.path if self.path.startswith("/workspaces") else below + self.path
            there.request(self.command, path, body, headers)
            answer = there.getresponse()
            self.send_response(answer.status)
            for name, value in answer.getheaders():
                if name.lower() not in ("transfer-encoding", "connection"):
                    self.send_header(name, value)
            self.send_header("Connection", "close")
            self.end_headers()
            self.close_connection = True
            try:
                while chunk := answer.read1(65536):
                    self.wfile.write(chunk)
                    self.wfile.flush()
            except (BrokenPipeError, ConnectionResetError):
                pass
            there.close()

        do_GET = do_POST = do_DELETE = do_PUT = do_PATCH = pass_on

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Proxy)
    server.handle_error = lambda *_: None
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return f"http://127.0.0.1:{server.server_port}"


def wait_for(path, pattern, process):
    for _ in range(600):
        found = re.search(pattern, path.read_text(errors="replace"))
        if found:
            return found.group(1)
        if process.poll() is not None:
            break
        time.sleep(0.1)
    raise SystemExit(f"it did not start:\n{path.read_text(errors='replace')}")


def start(command, log, environment, pattern):
    with log.open("wb") as out:
        process = subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, stdout=out, stderr=out)
    return process, wait_for(log, pattern, process)


def workspace(base, name, **more):
    body = json.dumps({"name": name, "external": True, **more}).encode()
    request = urllib.request.Request(base + "/workspaces", body, {"Authorization": f"Bearer {ADMIN}"})
    with urllib.request.urlopen(request) as answer:
        return json.load(answer)


def main(binary, *arguments):
    kit = os.environ.get("BATON_A2A_KIT")
    if not kit:
        print("BATON_A2A_KIT does not name a checkout of the kit", file=sys.stderr)
        return 75
    with tempfile.TemporaryDirectory(prefix="baton-kit.") as folder:
        folder = pathlib.Path(folder)
        plain = {"PATH": os.environ["PATH"], "HOME": str(folder)}
        new = "--sut-host" in (pathlib.Path(kit) / "run_tck.py").read_text()
        command = [sys.executable, str(HERE / "agent.py"), *([] if new else ["asking"])]
        agent, url = start(command, folder / "agent.log", plain, r"listening on (\S+)")
        settings = plain | {
            "PORT": "0", "ADMIN_TOKEN": ADMIN, "RATE_LIMIT": "0", "BATON_TARGET_ALLOW": "127.0.0.0/8,::1/128",
            "DATABASE_URL": f"sqlite://{folder}/kit.db", "DELEGATION_RESULT_INBOX_PUSH": "1", "BATON_RETRY_BASE_MS": "100",
        }
        baton, address = start(
            [pathlib.Path(binary).resolve()], folder / "baton.log", settings, r"listening on http://([^\s\"]+)"
        )
        try:
            base = f"http://{address}"
            root = workspace(base, "root")["id"]
            caller = workspace(base, "caller", parent_id=root)
            target = workspace(base, "kit", parent_id=root, url=url)["id"]
            old = f"/workspaces/{target}/a2a/v0.3"
            proxy = proxy_to(address, caller["auth_token"], old)
            url = f"{proxy}/workspaces/{target}/a2a"
            command = [sys.executable, "run_tck.py"]
            if new:
                command += ["--sut-host", url, *(arguments or ["--transport", "jsonrpc,http_json"])]
            else:
                command += ["--sut-url", f"{proxy}/", "--transports", "jsonrpc", *(arguments or ["--category", "mandatory"])]
            return subprocess.run(command, cwd=kit, check=False).returncode
        finally:
            baton.terminate()
            agent.terminate()
            baton.wait(20)
            if os.environ.get("BATON_A2A_KIT_LOGS"):
                print((folder / "baton.log").read_text(errors="replace"), (folder / "agent.log").read_text(errors="replace"))


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
