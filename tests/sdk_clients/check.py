"""Delegates through Baton with the official A2A clients, unmodified, to agents of the official SDKs.

    check.py BINARY

Each client asks each agent, waiting for the answer, looking again until it is there, and following a stream; and each
result is in the caller's inbox once. A stream on which nothing happens for eight seconds outlives a client whose patience is
five. The environments of the SDKs are in BATON_ENVIRONMENTS. Ends with 76 when a part was left out, and says which.
"""

import collections
import concurrent.futures
import contextlib
import json
import os
import pathlib
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request

ADMIN = "admin-token-of-the-check"
HERE = pathlib.Path(__file__).parent
ENVIRONMENTS = pathlib.Path(os.environ["BATON_ENVIRONMENTS"])
MODES = ("blocking", "polling", "streaming")
# How long something may take to start or to end.
PATIENCE_S = 120
left_out = []


def ask(url, token=None, body=None):
    data = None if body is None else json.dumps(body).encode()
    headers = {"Content-Type": "application/json"}
    if token:
        headers["Authorization"] = f"Bearer {token}"
    with urllib.request.urlopen(urllib.request.Request(url, data, headers), timeout=PATIENCE_S) as answer:
        return json.load(answer)


@contextlib.contextmanager
def running(command, **options):
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, **options)
    try:
        yield process
    finally:
        process.terminate()
        process.communicate(timeout=PATIENCE_S)


def listens(process):
    return next(line for line in process.stdout if "listening on " in line).split()[-1]


def skip(what, why):
    left_out.append(what)
    print(f"SKIPPED {what}: {why}", flush=True)


def python(name):
    return [str(ENVIRONMENTS / f"requirements_{name}" / "bin" / "python"), str(HERE / f"{name}.py")]


def javascript(folder):
    """What runs JavaScript beside its packages; none where there is no node, or no packages can be fetched."""
    if not (shutil.which("node") and shutil.which("npm")):
        return skip("JavaScript", "node and npm are not installed")
    version = subprocess.run(["node", "--version"], capture_output=True, text=True).stdout
    if int(version.strip().lstrip("v").split(".")[0]) < 20:
        return skip("JavaScript", f"the SDK needs Node.js 20, and this is {version.strip()}")
    place = pathlib.Path(folder) / "javascript"
    place.mkdir()
    for name in ("package.json", "package-lock.json", "javascript.mjs"):
        shutil.copy(HERE / name, place)
    command = ["npm", "ci", "--no-audit", "--no-fund", "--ignore-scripts", "--loglevel=error"]
    installed = subprocess.run(command, cwd=place, capture_output=True, text=True)
    if installed.returncode:
        print(installed.stderr, file=sys.stderr)
        if any(sign in installed.stderr for sign in ("ENOTFOUND", "ETIMEDOUT", "ECONNREFUSED", "EAI_AGAIN")):
            return skip("JavaScript", "no package index can be reached")
        sys.exit("npm ci failed")
    return ["node", str(place / "javascript.mjs")]


def langgraph(folder, stack):
    """The address of a LangGraph server, which is a target and no client; none where it cannot be installed."""
    program = ENVIRONMENTS / "requirements_langgraph" / "bin" / "langgraph"
    if not program.exists():
        return skip("LangGraph", "its packages cannot be installed here")
    place = pathlib.Path(folder) / "langgraph"
    place.mkdir()
    for name in ("langgraph.json", "langgraph_echo.py"):
        shutil.copy(HERE / name, place)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = str(free.getsockname()[1])
    environment = {**os.environ, "LANGSMITH_TRACING": "false", "LANGGRAPH_CLI_NO_ANALYTICS": "1"}
    log = open(place / "log", "w")
    command = [str(program), "dev", "--host", "127.0.0.1", "--port", port, "--no-browser", "--no-reload"]
    command += ["--n-jobs-per-worker", "20"]
    process = subprocess.Popen(command, cwd=place, env=environment, stdout=log, stderr=log)
    stack.callback(process.wait, PATIENCE_S)
    stack.callback(process.terminate)
    base = f"http://127.0.0.1:{port}"
    deadline = time.monotonic() + PATIENCE_S
    while True:
        try:
            found = ask(f"{base}/assistants/search", body={"graph_id": "echo"})
            return f"{base}/a2a/{found[0]['assistant_id']}"
        except (urllib.error.URLError, ConnectionError, IndexError):
            if process.poll() is not None or time.monotonic() > deadline:
                sys.exit(f"LangGraph did not start: {(place / 'log').read_text()}")
            time.sleep(0.2)


def workspace(base, name, parent=None, url=None):
    body = {"name": name, "external": True, "parent_id": parent, "url": url}
    made = ask(f"{base}/workspaces", ADMIN, body)
    return made["id"], made["auth_token"]


def jobs_of(client, suffix, base, token, targets):
    """Everything that a client asks for. The slow ones follow a stream, or nobody with five seconds would be patient enough."""
    for target, place in targets.items():
        for mode in MODES:
            for pace in ("quick", "slow") if mode == "streaming" else ("quick",):
                yield {
                    "base": f"{base}/workspaces/{place}/a2a{suffix}", "token": token, "mode": mode,
                    "text": f"{pace} {client} to {target}, {mode}",
                }


def results_of(command, jobs):
    done = subprocess.run([*command, "client"], input=json.dumps(jobs), stdout=subprocess.PIPE, text=True, timeout=PATIENCE_S)
    results = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.returncode == 0 and len(results) == len(jobs), (done.returncode, results)
    return results


def complaint(result):
    """What is wrong with a result, if anything."""
    job = result.pop("job")
    if result.get("text") != f"echo: {job['text']}":
        return f"{job['text']}: {result}"
    states = [state.lower().removeprefix("task_state_") for state in result["states"]]
    if states[-1] != "completed" or (job["mode"] == "streaming" and "working" not in states):
        return f"{job['text']}: it went {states}"
    return None


def inbox(base, caller, token):
    """How often each text is in an inbox."""
    rows, place = [], 0
    while page := ask(f"{base}/workspaces/{caller}/activity?type=a2a_receive&limit=500&after_seq={place}", token):
        rows += page
        place = page[-1]["seq"]
    return collections.Counter(part["text"] for row in rows for part in row["request_body"]["parts"])


def delegate(base, clients, targets):
    """Lets each client ask each target; answers with what is wrong."""
    root, _ = workspace(base, "root")
    caller, token = workspace(base, "caller", root)
    places = {name: workspace(base, name, root, url)[0] for name, url in targets.items()}
    jobs = {name: list(jobs_of(name, suffix, base, token, places)) for name, (_, suffix) in clients.items()}
    with concurrent.futures.ThreadPoolExecutor() as pool:
        every = pool.map(lambda name: results_of(clients[name][0], jobs[name]), clients)
        results = [result for results in every for result in results]
    complaints = [complaint(result) for result in results]
    expected = collections.Counter(f"echo: {job['text']}" for each in jobs.values() for job in each)
    found = inbox(base, caller, token)
    if found != expected:
        complaints.append(f"in the inbox too much: {found - expected}, too little: {expected - found}")
    for name in clients:
        print(f"{name}: {len(jobs[name])} delegations to {', '.join(targets)}")
    return [text for text in complaints if text]


def main():
    binary = str(pathlib.Path(sys.argv[1]).resolve())
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        peers = {"python-1.0": (python("python_1"), ""), "python-0.3": (python("python_0"), "/v0.3")}
        if command := javascript(folder):
            peers["javascript"] = (command, "")
        agents = {name: stack.enter_context(running([*command, "agent"])) for name, (command, _) in peers.items()}
        targets = {name: listens(agent) for name, agent in agents.items()}
        if address := langgraph(folder, stack):
            targets["langgraph"] = address
        environment = {
            "PORT": "0", "ADMIN_TOKEN": ADMIN, "BATON_TARGET_ALLOW": "127.0.0.0/8", "RATE_LIMIT": "0",
            "DELEGATION_RESULT_INBOX_PUSH": "1", "BATON_LOG": "warn",
        }
        server = stack.enter_context(running([binary], cwd=folder, env=environment))
        complaints = delegate(listens(server), peers, targets)
    if complaints:
        sys.exit("\n".join(complaints))
    if left_out:
        sys.exit(76)


if __name__ == "__main__":
    main()
