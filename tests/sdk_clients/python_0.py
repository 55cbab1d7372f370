"""An agent and a client of the Python SDK for A2A 0.3, unmodified.

    python_0.py agent             prints where it listens
    python_0.py client < JOBS     prints what came of each
"""

import asyncio
import json
import socket
import sys
import uuid

import httpx
import uvicorn
from a2a.client import A2ACardResolver, ClientConfig, ClientFactory
from a2a.server.agent_execution import AgentExecutor
from a2a.server.apps import A2AStarletteApplication
from a2a.server.request_handlers import DefaultRequestHandler
from a2a.server.tasks import InMemoryTaskStore, TaskUpdater
from a2a.types import (
    AgentCapabilities,
    AgentCard,
    AgentSkill,
    Message,
    Part,
    Role,
    TaskArtifactUpdateEvent,
    TaskQueryParams,
    TaskState,
    TextPart,
)
from a2a.utils import new_task

SLOW_S = 8
RUNNING = {TaskState.submitted, TaskState.working}


class Echo(AgentExecutor):
    """Works, and answers with what it was told."""

    async def execute(self, context, event_queue):
        task = new_task(context.message)
        await event_queue.enqueue_event(task)
        updater = TaskUpdater(event_queue, task.id, task.context_id)
        await updater.start_work()
        text = context.get_user_input()
        if text.startswith("slow"):
            await asyncio.sleep(SLOW_S)
        await updater.add_artifact([Part(root=TextPart(text=f"echo: {text}"))], name="echo")
        await updater.complete()

    async def cancel(self, context, event_queue):
        await TaskUpdater(event_queue, context.task_id, context.context_id).cancel()


def agent():
    listener = socket.create_server(("127.0.0.1", 0))
    url = f"http://127.0.0.1:{listener.getsockname()[1]}/"
    card = AgentCard(
        name="Echo", description="Answers with what it was told.", version="1.0.0", url=url,
        capabilities=AgentCapabilities(streaming=True),
        default_input_modes=["text/plain"], default_output_modes=["text/plain"],
        skills=[AgentSkill(id="echo", name="Echo", description="Echo", tags=["echo"])],
    )
    handler = DefaultRequestHandler(agent_executor=Echo(), task_store=InMemoryTaskStore())
    app = A2AStarletteApplication(agent_card=card, http_handler=handler).build()
    print(f"listening on {url}", flush=True)
    uvicorn.Server(uvicorn.Config(app, log_level="warning")).run(sockets=[listener])


def text_of(artifacts):
    parts = (part for artifact in artifacts for part in artifact.parts)
    return "".join(part.root.text for part in parts if isinstance(part.root, TextPart))


async def done(job):
    """What one job came to: the text, and the states that were seen on the way."""
    headers = {"Authorization": f"Bearer {job['token']}"}
    # As the SDK makes it itself, with its five seconds, but for the credential.
    async with httpx.AsyncClient(headers=headers) as http_client:
        config = ClientConfig(
            httpx_client=http_client, streaming=job["mode"] == "streaming", polling=job["mode"] == "polling"
        )
        card = await A2ACardResolver(http_client, job["base"]).get_agent_card()
        client = ClientFactory(config).create(card)
        parts = [Part(root=TextPart(text=job["text"]))]
        message = Message(message_id=str(uuid.uuid4()), role=Role.user, parts=parts)
        states, task, brought = [], None, []
        async for event in client.send_message(message):
            assert isinstance(event, tuple), f"a message instead of a task: {event}"
            task, update = event
            states.append(task.status.state)
            if isinstance(update, TaskArtifactUpdateEvent):
                brought.append(update.artifact)
        while job["mode"] == "polling" and task.status.state in RUNNING:
            await asyncio.sleep(0.1)
            task = await client.get_task(TaskQueryParams(id=task.id))
            states.append(task.status.state)
        artifacts = brought if job["mode"] == "streaming" else task.artifacts or []
        return {"text": text_of(artifacts), "states": [state.value for state in states]}


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
