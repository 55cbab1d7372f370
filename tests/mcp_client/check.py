"""Delegates through Baton with the official MCP client, unmodified.

    check.py BINARY

Each tool is listed and called in every way in: Streamable HTTP in the newest version, the same with the handshake of the
older ones, and the bridge over standard input and output. BATON_MCP_SECONDS=180 makes the long delegation that long.
"""

import asyncio
import http.server
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request

import httpx2
from mcp import Client, StdioServerParameters
from mcp.client.streamable_http import streamable_http_client

ADMIN = "admin-token-of-the-check"
SECONDS = float(os.environ.get("BATON_MCP_SECONDS", "12"))
SLOW = "take your time"
QUESTION = "ask me"
TOOLS = {
    "delegate_task", "delegate_task_async", "check_task_status", "cancel_task", "answer_question", "list_peers",
    "get_workspace_info", "wait_for_message", "inbox_peek", "inbox_ack", "send_message_to_user",
}


class Agent(http.server.BaseHTTPRequestHandler):
    """Answers with what it was sent: at once, after a while, or after a question."""

    def do_GET(self):
        self.send_error(404)

    def do_POST(self):
        call = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        sent = call["params"].get("message", {})
        text = "".join(part.get("text", "") for part in sent.get("parts", []))
        if SLOW in text:
            time.sleep(SECONDS)
        message = {"kind": "message", "role": "agent", "messageId": "m", "parts": [{"kind": "text", "text": f"done: {text}"}]}
        result = message
        if text == QUESTION:
            result = {"kind": "task", "id": "t", "contextId": "c", "status": {"state": "input-required", "message": message}}
        body = json.dumps({"jsonrpc": "2.0", "id": call["id"], "result": result}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


def ask(base, token, path, body):
    request = urllib.request.Request(base + path, json.dumps(body).encode(), {"Authorization": f"Bearer {token}"})
    with urllib.request.urlopen(request) as answer:
        return json.load(answer)


def workspace(base, name, parent=None, url=None):
    made = ask(base, ADMIN, "/workspaces", {"name": name, "external": True, "parent_id": parent, "url": url})
    return made["id"], made["auth_token"]


async def call(client, name, **arguments):
    result = await client.call_tool(name, arguments)
    assert not result.is_error, (name, result)
    return result.structured_content


async def exercise(client, target):
    listed = await client.list_tools()
    assert {tool.name for tool in listed.tools} == TOOLS, listed
    peers = await call(client, "list_peers")
    assert any(peer["id"] == target for peer in peers["peers"]), peers
    assert (await call(client, "get_workspace_info"))["name"] == "caller"

    steps = []

    async def progress(done, _total, message):
        steps.append((done, message))

    arguments = {"workspace_id": target, "task": SLOW}
    done = await client.call_tool("delegate_task", arguments, progress_callback=progress)
    assert not done.is_error and done.content[0].text == f"done: {SLOW}", done
    assert len(steps) >= SECONDS // 10, steps
    assert steps == sorted(steps, key=lambda step: step[0]), steps

    asked = await call(client, "delegate_task_async", workspace_id=target, task=QUESTION)
    while (await call(client, "check_task_status", task_id=asked["task_id"]))["status"] != "input_required":
        await asyncio.sleep(0.05)
    await call(client, "answer_question", task_id=asked["task_id"], text="an answer")
    messages = await call(client, "wait_for_message", timeout_seconds=30)
    while not any("an answer" in json.dumps(row) for row in messages["messages"]):
        await call(client, "inbox_ack", acked_seq=messages["messages"][-1]["seq"])
        messages = await call(client, "wait_for_message", timeout_seconds=30)
    await call(client, "inbox_ack", acked_seq=messages["messages"][-1]["seq"])
    assert (await call(client, "inbox_peek"))["messages"] == []

    begun = await call(client, "delegate_task_async", workspace_id=target, task=SLOW + ", but never mind")
    stopped = await call(client, "cancel_task", task_id=begun["task_id"], reason="enough")
    assert stopped["status"] == "cancelled", stopped
    await call(client, "send_message_to_user", message="hello")
    lost = await client.call_tool("check_task_status", {"task_id": "unknown"})
    assert lost.is_error, lost


async def every_way(base, binary, caller, token, target):
    url = f"{base}/workspaces/{caller}/mcp"
    for mode in ("auto", "legacy"):
        # The package's own time for a silent connection is five minutes; a tenth of that shows that it is not needed.
        headers = {"Authorization": f"Bearer {token}"}
        async with httpx2.AsyncClient(headers=headers, timeout=httpx2.Timeout(30, read=6)) as http_client:
            async with Client(streamable_http_client(url, http_client=http_client), mode=mode) as client:
                await exercise(client, target)
                print(f"{mode}: {client.protocol_version}, every tool over HTTP")
    bridge = StdioServerParameters(
        command=binary, args=["mcp", "--workspace", caller], env={"BATON_URL": base, "BATON_TOKEN": token}
    )
    async with Client(bridge) as client:
        await exercise(client, target)
        print(f"bridge: {client.protocol_version}, every tool")


def main():
    binary = str(pathlib.Path(sys.argv[1]).resolve())
    agent = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Agent)
    threading.Thread(target=agent.serve_forever, daemon=True).start()
    with tempfile.TemporaryDirectory() as folder:
        environment = {
            "PORT": "0", "ADMIN_TOKEN": ADMIN, "BATON_TARGET_ALLOW": "127.0.0.0/8", "RATE_LIMIT": "0",
            "DELEGATION_RESULT_INBOX_PUSH": "1", "BATON_LOG": "warn",
        }
        server = subprocess.Popen([binary], cwd=folder, env=environment, stdout=subprocess.PIPE, text=True)
        try:
            listening = next(line for line in server.stdout if line.startswith("listening on "))
            base = listening.split()[-1]
            threading.Thread(target=server.stdout.read, daemon=True).start()
            root, _ = workspace(base, "root")
            caller, token = workspace(base, "caller", root)
            target, _ = workspace(base, "target", root, f"http://127.0.0.1:{agent.server_port}/")
            asyncio.run(every_way(base, binary, caller, token, target))
        finally:
            server.terminate()
            status = server.wait(30)
        assert status == 0, f"the server ended with {status}"


if __name__ == "__main__":
    main()
