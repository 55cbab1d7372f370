"""A graph that answers with what it was told."""

import asyncio

from langchain_core.messages import AIMessage
from langgraph.graph import END, START, MessagesState, StateGraph

SLOW_S = 8


async def echo(state: MessagesState):
    text = state["messages"][-1].text
    text = text if isinstance(text, str) else text()
    if text.startswith("slow"):
        await asyncio.sleep(SLOW_S)
    return {"messages": [AIMessage(content=f"echo: {text}")]}


graph = StateGraph(MessagesState).add_node("echo", echo).add_edge(START, "echo").add_edge("echo", END).compile()
