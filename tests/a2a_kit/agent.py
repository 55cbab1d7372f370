"""An agent of the reference SDK that does what the conformance kit's scenarios ask for, by the beginning of the messageId.

    agent.py [asking]

With `asking` it ends nothing by itself, as the kit of 0.3 expects: after a second it asks for more.
"""

import asyncio
import socket
import sys

import uvicorn
from a2a.helpers import new_data_part, new_raw_part, new_task_from_user_message, new_text_part, new_url_part
from a2a.server.agent_execution import AgentExecutor
from a2a.server.request_handlers import DefaultRequestHandler
from a2a.server.routes import create_agent_card_routes, create_jsonrpc_routes
from a2a.server.tasks import InMemoryTaskStore, TaskUpdater
from a2a.types import AgentCapabilities, AgentCard, AgentInterface, AgentSkill
from starlette.applications import Starlette

OUTPUT = new_raw_part(b"tck", media_type="text/plain", filename="output.txt")
# What each scenario makes: whether it says first that it works, and its chunks.
MADE = {
    "tck-artifact-text": (False, [new_text_part("Generated text content")]),
    "tck-artifact-file-url": (False, [new_url_part("https://example.com/output.txt", "text/plain", filename="output.txt")]),
    "tck-artifact-file": (False, [OUTPUT]),
    "tck-artifact-data": (False, [new_data_part({"key": "value", "count": 42})]),
    "tck-stream-001": (True, [new_text_part("Stream hello from TCK")]),
    "tck-stream-002": (False, []),
    "tck-stream-003": (True, [new_text_part("Stream task lifecycle")]),
    "tck-stream-ordering-001": (True, [new_text_part("Ordered output")]),
    "tck-stream-artifact-text": (True, [new_text_part("Streamed text content")]),
    "tck-stream-artifact-file": (True, [OUTPUT]),
    "tck-stream-artifact-chunked": (True, [new_text_part("chunk-1 "), new_text_part("chunk-2")]),
    "test-resubscribe-message-id": (True, []),
}


class Executor(AgentExecutor):
    async def execute(self, context, event_queue):
        updater = TaskUpdater(event_queue, context.task_id, context.context_id)
        scenario = context.message.message_id
        if scenario.startswith("tck-message-response"):
            await event_queue.enqueue_event(updater.new_agent_message([new_text_part("Direct message response")]))
            return
        if context.current_task is None:
            await event_queue.enqueue_event(new_task_from_user_message(context.message))
        if scenario.startswith("tck-input-required"):
            await updater.requires_input()
            return
        if scenario.startswith("tck-reject-task"):
            await updater.reject(updater.new_agent_message([new_text_part("rejected")]))
            return
        if "asking" in sys.argv:
            await updater.start_work()
            await asyncio.sleep(1)
            await updater.requires_input(updater.new_agent_message([new_text_part("and now?")]))
            return
        found = max((name for name in MADE if scenario.startswith(name)), key=len, default=None)
        if found is None:
            await updater.complete(updater.new_agent_message([new_text_part("Hello from TCK")]))
            return
        works, parts = MADE[found]
        if works:
            await updater.start_work()
        if found.startswith("test-resubscribe"):
            await asyncio.sleep(4)
        for place, part in enumerate(parts):
            await updater.add_artifact([part], "made", append=place > 0, last_chunk=place == len(parts) - 1)
        await updater.complete()

    async def cancel(self, context, event_queue):
        await TaskUpdater(event_queue, context.task_id, context.context_id).cancel()


async def main():
    listener = socket.create_server(("127.0.0.1", 0))
    url = f"http://127.0.0.1:{listener.getsockname()[1]}/"
    card = AgentCard(
        name="kit", description="does what the kit asks for", version="1",
        supported_interfaces=[AgentInterface(url=url, protocol_binding="JSONRPC", protocol_version="1.0")],
        capabilities=AgentCapabilities(streaming=True, push_notifications=False),
        default_input_modes=["text/plain"], default_output_modes=["text/plain"],
        skills=[AgentSkill(id="kit", name="kit", description="kit", tags=["kit"])],
    )
    handler = DefaultRequestHandler(agent_executor=Executor(), task_store=InMemoryTaskStore(), agent_card=card)
    routes = create_agent_card_routes(card) + create_jsonrpc_routes(handler, "/", enable_v0_3_compat=True)
    server = uvicorn.Server(uvicorn.Config(Starlette(routes=routes), log_level="warning"))
    print(f"listening on {url}", flush=True)
    await server.serve(sockets=[listener])


asyncio.run(main())
