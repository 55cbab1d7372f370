"""Asks the real binary everything that its own description allows, and much that it does not.

    check.py BINARY [DATABASE_URL]

Schemathesis runs as the admin, as a workspace and as nobody. Then what it cannot ask is asked by hand, the rules are
checked on the rows that came of it all, and the server has to end well. `run` makes the environment for it.
"""

import base64
import contextlib
import hashlib
import hmac
import http.client
import http.server
import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
import uuid

HERE = pathlib.Path(__file__).resolve().parent
ADMIN = "admin-token-of-the-check"
SECRET_KEY = b"0123456789abcdef0123456789abcdef"
EXAMPLES = int(os.environ.get("BATON_SCHEMATHESIS_EXAMPLES", "8"))
SEED = os.environ.get("BATON_SCHEMATHESIS_SEED", "1")
CHECKS = (
    "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance,"
    "says_when_to_come_back"
)
MAX_BODY_BYTES = 1_000_000
# A task that the agent answers with a question.
QUESTION = "ask me"
# Its codes are given by the demonstration alone.
ONLY_IN_THE_DEMO = ("POST", "/session")
# Streams do not end by themselves; `by_hand` asks for each of its statuses.
ENDLESS = "/workspaces/{id}/events/stream"


class Agent(http.server.BaseHTTPRequestHandler):
    """Answers a call well, with an error, with rubbish, or not at all, as the task's length has it; or asks back."""

    def do_GET(self):
        self.send_error(404)

    def do_POST(self):
        call = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.path.endswith("gone"):
            return self.send_error(410)
        message = {"kind": "message", "role": "agent", "messageId": "m", "parts": [{"kind": "text", "text": "done"}]}
        good = {"jsonrpc": "2.0", "id": call.get("id"), "result": message}
        sent = call.get("params", {}).get("message", {})
        if QUESTION in json.dumps(sent.get("parts")):
            status = {"state": "input-required", "message": message}
            good["result"] = {"kind": "task", "id": "t", "contextId": "c", "status": status}
        bad = {"jsonrpc": "2.0", "id": call.get("id"), "error": {"code": -32000, "message": "no"}}
        kind = 1 if QUESTION in json.dumps(sent) or "taskId" in sent else len(json.dumps(call)) % 5
        if kind == 4:
            self.close_connection = True
            return
        body = json.dumps(bad if kind == 3 else good).encode() if kind else b"<html>"
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


@contextlib.contextmanager
def agent():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Agent)
    server.handle_error = lambda *_: None
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()


class Baton:
    """The server, on a free port, in a directory of its own."""

    def __init__(self, binary, database, folder):
        self.log = folder / "server.log"
        environment = {
            "PATH": os.environ["PATH"],
            "HOST": "127.0.0.1",
            "PORT": "0",
            "DATABASE_URL": database or f"sqlite://{folder}/check.db",
            "ADMIN_TOKEN": ADMIN,
            "BATON_SECRET_KEY": base64.b64encode(SECRET_KEY).decode(),
            "RATE_LIMIT": "0",
            "BATON_MAX_BODY_BYTES": str(MAX_BODY_BYTES),
            "BATON_TARGET_ALLOW": "127.0.0.0/8",
            "BATON_RETRY_BASE_MS": "200",
            "DELEGATION_RESULT_INBOX_PUSH": "1",
        }
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [binary], cwd=folder, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        self.address = self.wait_for(r"listening on http://(\S+)")
        self.wait_for_health()

    def text(self):
        return self.log.read_text(errors="replace")

    def wait_for(self, pattern):
        for _ in range(600):
            found = re.search(pattern, self.text())
            if found:
                return found.group(1)
            if self.process.poll() is not None:
                break
            time.sleep(0.1)
        raise SystemExit(f"the server did not start:\n{self.text()}")

    def wait_for_health(self):
        for _ in range(600):
            if self.ask("GET", "/health")[0] == 200:
                return
            time.sleep(0.1)
        raise SystemExit(f"the server is not healthy:\n{self.text()}")

    def ask(self, method, path, body=None, bearer=None, headers=None):
        """Status and body, of a stream the first line."""
        connection = http.client.HTTPConnection(self.address, timeout=30)
        headers = dict(headers or {})
        if bearer:
            headers["Authorization"] = f"Bearer {bearer}"
        connection.request(method, path, None if body is None else json.dumps(body), headers)
        answer = connection.getresponse()
        endless = answer.status == 101 or answer.headers.get_content_type() == "text/event-stream"
        text = b"" if answer.status == 101 else answer.readline() if endless else answer.read()
        connection.close()
        return answer.status, text.decode()

    def told(self, method, path, body=None, bearer=ADMIN):
        status, text = self.ask(method, path, body, bearer)
        if status >= 300:
            raise SystemExit(f"{method} {path}: {status} {text}")
        return json.loads(text)

    def end(self):
        self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            return "killed, since it did not end by itself"


def world(baton, url):
    """An organisation with something of everything."""
    made = {}
    for name, more in (
        ("root", {}),
        ("caller", {"parent_id": "root"}),
        ("target", {"parent_id": "root", "external": True, "url": url}),
        ("scratch", {"parent_id": "root"}),
        ("gone", {}),
    ):
        body = {"name": name, **more}
        if "parent_id" in body:
            body["parent_id"] = made["root"]["id"]
        made[name] = baton.told("POST", "/workspaces", body)
    ids = {name: workspace["id"] for name, workspace in made.items()}
    own, token = f"/workspaces/{ids['caller']}", made["caller"]["auth_token"]
    baton.told("DELETE", f"/workspaces/{ids['gone']}")
    begun = [
        baton.told("POST", f"{own}/delegate", {"target_id": ids["target"], "task": "x" * length}, token)
        for length in range(1, 8)
    ]
    for number in range(3):
        baton.told("POST", f"{own}/activity", {"activity_type": "a2a_receive", "summary": str(number)}, token)
    [first] = baton.told("GET", f"{own}/tokens")["tokens"]
    for _ in range(5):
        baton.told("POST", f"{own}/tokens", bearer=token)
    return ids | {
        "base": f"http://{baton.address}",
        "admin": ADMIN,
        "agent": url,
        "token": token,
        "token_id": first["id"],
        "spare_tokens": [one["id"] for one in baton.told("GET", f"{own}/tokens")["tokens"] if one["id"] != first["id"]],
        "delegations": [one["delegation_id"] for one in begun],
        "webhooks": [baton.told("POST", f"{own}/webhooks", {"url": url}, token)["id"] for _ in range(6)],
        "rows": [row["id"] for row in baton.told("GET", f"{own}/activity")],
    }


def schemathesis(world, role, folder):
    """Whether it finds nothing."""
    bearer = {"admin": ADMIN, "workspace": world["token"], "nobody": None}[role]
    # Nobody is refused at the door: less to find there.
    examples = EXAMPLES if bearer else max(1, EXAMPLES // 5)
    command = [
        str(pathlib.Path(sys.executable).with_name("schemathesis")),
        *("--config-file", str(HERE / "schemathesis.toml")),
        *("run", world["base"] + "/openapi.json", "--checks", CHECKS),
        *("--phases", "coverage,fuzzing", "--mode", "all", "--max-examples", str(examples)),
        *("--seed", SEED, "--generation-database", "none", "--generation-with-security-parameters", "false"),
        *("--exclude-path", ENDLESS, "--request-timeout", "30", "--suppress-health-check", "all"),
        *("--continue-on-failure", "--warnings", "off", "--no-color"),
    ]
    if bearer:
        command += ["--header", f"Authorization: Bearer {bearer}", "--output-sanitize", "true"]
    environment = os.environ | {
        "SCHEMATHESIS_HOOKS": "hooks",
        "PYTHONPATH": str(HERE),
        "PYTHONDONTWRITEBYTECODE": "1",
        "BATON_WORLD": json.dumps(world | {"role": role}),
    }
    print(f"\n---- as {role}, {examples} examples for each operation", flush=True)
    return subprocess.run(command, cwd=folder, env=environment, check=False).returncode == 0


def by_hand(baton, world):
    """What is documented and not generated: streams, sockets, a wait, what is gone, what is too long."""
    stream = f"/workspaces/{world['caller']}/events/stream"
    nobody = f"/workspaces/{uuid.uuid4()}/events/stream"
    inbox = f"/workspaces/{world['scratch']}/inbox?wait=1"
    shake = {
        "Connection": "Upgrade",
        "Upgrade": "websocket",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
    }
    foreign = shake | {"Origin": "http://elsewhere.example"}
    own, gone = world["token"], world["gone"]
    wrong = []
    for method, path, bearer, headers, body, expected in (
        ("GET", stream, own, {}, None, 200),
        ("GET", stream, own, {"Last-Event-ID": "0"}, None, 200),
        ("GET", stream, own, {"Last-Event-ID": "x"}, None, 400),
        ("GET", stream, None, {}, None, 401),
        ("GET", stream, "wrong", {}, None, 401),
        ("GET", nobody, own, {}, None, 401),
        ("GET", nobody, ADMIN, {}, None, 404),
        ("GET", "/ws", own, shake, None, 101),
        ("GET", "/ws?after_seq=0", ADMIN, shake, None, 101),
        ("GET", "/ws?after_seq=-1", ADMIN, shake, None, 400),
        ("GET", "/ws", ADMIN, {}, None, 400),
        ("GET", "/ws", None, shake, None, 401),
        ("GET", "/ws", ADMIN, foreign, None, 403),
        ("GET", inbox, ADMIN, {}, None, 200),
        ("GET", f"/workspaces/{world['caller']}/mcp", own, {}, None, 405),
        ("GET", f"/workspaces/{gone}", ADMIN, {}, None, 410),
        ("POST", "/registry/heartbeat", ADMIN, {}, {"workspace_id": gone}, 410),
        ("POST", "/registry/register", ADMIN, {}, {"id": gone, "agent_card": {}, "url": world["agent"]}, 410),
        ("DELETE", f"/workspaces/{world['root']}", ADMIN, {}, None, 409),
        ("POST", "/workspaces", ADMIN, {}, {"name": "n" * MAX_BODY_BYTES}, 413),
    ):
        status, text = baton.ask(method, path, body, bearer, headers)
        if status != expected:
            wrong.append(f"{method} {path} {headers}: {status} instead of {expected}: {text[:200]}")
    return wrong


def waited_for(baton, world):
    """What needs a delegation in a certain state, which chance may never offer, or somebody who waits: for an answer to
    a question, for a target without an address."""
    own, token = f"/workspaces/{world['caller']}", world["token"]
    asker, silent = (
        baton.told("POST", "/workspaces", {"name": name, "parent_id": world["root"], "external": True, **more})["id"]
        for name, more in (("asker", {"url": world["agent"]}), ("silent", {}))
    )
    asked, waiting = (
        baton.told("POST", f"{own}/delegate", {"target_id": target, "task": QUESTION}, token)["delegation_id"]
        for target in (asker, silent)
    )
    for delegation, status in ((asked, "input_required"), (waiting, "queued")):
        for _ in range(100):
            if baton.told("GET", f"{own}/delegations/{delegation}")["status"] == status:
                break
            time.sleep(0.1)
    baton.told("POST", f"{own}/delegations/{waiting}/heartbeat", {}, token)
    baton.told("POST", f"{own}/delegations/{asked}/input", {"text": "an answer"}, token)
    baton.told("POST", f"{own}/delegations/{waiting}/cancel", {}, token)
    baton.told("POST", f"{own}/delegations/{waiting}/retry", {}, token)
    baton.told("POST", f"/admin/breakers/{silent}/reset")
    return notified(baton, world, waiting) + replayed(baton, world)


def notified(baton, world, delegation):
    """An agent tells of a task, with the token that it would have been given."""
    sign = lambda key, text: hmac.new(key, text.encode(), hashlib.sha256).digest()
    token = sign(sign(SECRET_KEY, "baton: token"), f"push:{world['caller']}:{delegation}")
    shown = {"X-A2A-Notification-Token": base64.urlsafe_b64encode(token).decode().rstrip("=")}
    status, text = baton.ask("POST", f"/a2a/notifications/{world['caller']}/{delegation}", {}, headers=shown)
    return [] if status == 204 else [f"a notification: {status} {text}"]


def replayed(baton, world):
    """A webhook that says it is gone, and is told on all the same."""
    told, target = (
        baton.told("POST", "/workspaces", {"name": name, "parent_id": world["root"]})["id"] for name in ("told", "telling")
    )
    own = f"/workspaces/{told}"
    baton.told("POST", f"{own}/webhooks", {"url": world["agent"] + "gone"})
    record = {"target_id": target, "task": "x", "delegation_id": str(uuid.uuid4())}
    baton.told("POST", f"{own}/delegations/record", record)
    baton.told("POST", f"{own}/delegations/{record['delegation_id']}/update", {"status": "failed"})
    for _ in range(100):
        dead = [one for one in baton.told("GET", "/admin/receivers?state=dead")["receivers"] if one["url"].endswith("gone")]
        if dead:
            baton.told("POST", f"/admin/receivers/{dead[0]['id']}/replay")
            return []
        time.sleep(0.1)
    return ["a receiver that is gone was not found dead"]


def unreached(baton):
    """The operations that could succeed and never did: what is always refused was not looked at."""
    counted = re.findall(
        r'^baton_http_requests_total\{method="(\w+)",path="([^"]+)",status="(\d+)"\} (\d+)$',
        baton.ask("GET", "/metrics")[1],
        re.MULTILINE,
    )
    seen = {}
    for method, path, status, count in counted:
        seen.setdefault((method, path), {})[status] = int(count)
    described = baton.told("GET", "/openapi.json")["paths"]
    answers = {(method.upper(), path): one["responses"] for path, item in described.items() for method, one in item.items()}
    operations = list(answers)
    print("\n---- answers by status")
    for operation in sorted(operations):
        print(*operation, " ".join(f"{status}:{count}" for status, count in sorted(seen.get(operation, {}).items())))
    return [
        f"{method} {path} never succeeded"
        for method, path in sorted(operations)
        if (method, path) != ONLY_IN_THE_DEMO
        and any(status < "300" for status in answers[method, path])
        and not any(status < "300" for status in seen.get((method, path), {}))
    ]


def main(binary, database=None):
    # A polite end, so that the server is not left behind.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    with tempfile.TemporaryDirectory(prefix="baton-schemathesis.") as folder, agent() as url:
        folder = pathlib.Path(folder)
        baton = Baton(pathlib.Path(binary).resolve(), database, folder)
        try:
            all_of_it = world(baton, url)
            wrong = [
                f"schemathesis, as {role}"
                for role in ("admin", "workspace", "nobody")
                if not schemathesis(all_of_it, role, folder)
            ]
            wrong += by_hand(baton, all_of_it)
            wrong += waited_for(baton, all_of_it)
            wrong += unreached(baton)
            violations = baton.told("GET", "/admin/invariants")["violations"]
            if violations:
                wrong.append(f"broken rules: {violations}")
        finally:
            ended = baton.end()
        if ended != 0:
            wrong.append(f"the server ended with {ended}")
        wrong += [line for line in baton.text().splitlines() if "panicked" in line or re.search("ERROR.* baton", line)]
        print("\n" + ("\n".join(["FOUND"] + wrong) if wrong else "nothing found"))
        return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
