"""An agent and a client of the Python SDK for A2A 1.0, unmodified.

    python_1.py agent             prints where it listens
    python_1.py client < JOBS     prints what came of each
"""

import asyncio
import json
import socket
import sys
import uuid

import httpx
import uvicorn
from a2a.client import ClientConfig, create_client
from a2a.server.agent_execution import AgentExecutor
from a2a.server.request_handlers import DefaultRequestHandler
from a2a.server.routes import create_agent_card_routes, create_jsonrpc_routes
from a2a.server.tasks import InMemoryTaskStore, TaskUpdater
from a2a.types import (
    AgentCapabilities,
    AgentCard,
    AgentInterface,
    AgentSkill,
    GetTaskRequest,
    Message,
    Part,
    Role,
    SendMessageRequest,
    Task,
    TaskState,
    TaskStatus,
)
from starlette.applications import Starlette

SLOW_S = 8
RUNNING = {TaskState.TASK_STATE_SUBMITTED, TaskState.TASK_STATE_WORKING}


class Echo(AgentExecutor):
    """Works, and answers with what it was told."""

    async def execute(self, context, event_queue):
        ids = {"task_id": context.task_id, "context_id": context.context_id}
        status = TaskStatus(state=TaskState.TASK_STATE_SUBMITTED)
        await event_queue.enqueue_event(
            Task(id=context.task_id, context_id=context.context_id, status=status, history=[context.message])
        )
        updater = TaskUpdater(event_queue, **ids)
        await updater.start_work()
        text = context.get_user_input()
        if text.startswith("slow"):
            await asyncio.sleep(SLOW_S)
        await updater.add_artifact([Part(text=f"echo: {text}")], name="echo")
        await updater.complete()

    async def cancel(self, context, event_queue):
        await TaskUpdater(event_queue, context.task_id, context.context_id).cancel()


def agent():
    listener = socket.create_server(("127.0.0.1", 0))
    url = f"http://127.0.0.1:{listener.getsockname()[1]}/"
    card = AgentCard(
        name="Echo", description="Answers with what it was told.", version="1.0.0",
        capabilities=AgentCapabilities(streaming=True),
        default_input_modes=["text/plain"], default_output_modes=["text/plain"],
        skills=[AgentSkill(id="echo", name="Echo", description="Echo", tags=["echo"])],
        supported_interfaces=[AgentInterface(protocol_binding="JSONRPC", protocol_version="1.0", url=url)],
    )
    handler = DefaultRequestHandler(agent_executor=Echo(), task_store=InMemoryTaskStore(), agent_card=card)
    routes = [*create_agent_card_routes(agent_card=card), *create_jsonrpc_routes(request_handler=handler, rpc_url="/")]
    print(f"listening on {url}", flush=True)
    server = uvicorn.Server(uvicorn.Config(Starlette(routes=routes), log_level="warning"))
    server.run(sockets=[listener])


def text_of(artifacts):
    return "".join(part.text for artifact in artifacts for part in artifact.parts)


async def done(job):
    """What one job came to: the text, and the states that were seen on the way."""
    headers = {"Authorization": f"Bearer {job['token']}"}
    # As the SDK makes it itself, with its five seconds, but for the credential.
    async with httpx.AsyncClient(headers=headers) as http_client:
        config = ClientConfig(
            httpx_client=http_client, streaming=job["mode"] == "streaming", polling=job["mode"] == "polling"
        )
        client = await create_client(job["base"], client_config=config)
        message = Message(message_id=str(uuid.uuid4()), role=Role.ROLE_USER, parts=[Part(text=job["text"])])
        states, artifacts, task = [], [], None
        async for event in client.send_message(SendMessageRequest(message=message)):
            if event.HasField("task"):
                task = event.task
                states.append(task.status.state)
                artifacts.extend(task.artifacts)
            elif event.HasField("status_update"):
                states.append(event.status_update.status.state)
            elif event.HasField("artifact_update"):
                artifacts.append(event.artifact_update.artifact)
            else:
                raise AssertionError(f"a message instead of a task: {event}")
        if job["mode"] == "polling":
            while task.status.state in RUNNING:
                await asyncio.sleep(0.1)
                task = await client.get_task(GetTaskRequest(id=task.id))
                states.append(task.status.state)
            artifacts = task.artifacts
        return {"text": text_of(artifacts), "states": [TaskState.Name(state) for state in states]}


async def client():
    async def report(job):
        try:
            result = await done(job)
        except Exception as error:  # Whatever it is, the check tells which job it was.
            result = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps({"job": job, **result}), flush=True)

    await asyncio.gather(*(report(job) for job in json.load(sys.stdin)))


if __name__ == "__main__":
    agent() if sys.argv[1] == "agent" else asyncio.run(client())
