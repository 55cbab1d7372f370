// An agent and a client of the JavaScript SDK, unmodified.
//
//     javascript.mjs agent             prints where it listens
//     javascript.mjs client < JOBS     prints what came of each

import { randomUUID } from "node:crypto";
import { text as read } from "node:stream/consumers";
import { setTimeout as pause } from "node:timers/promises";

import { AGENT_CARD_PATH, Role, TaskState, taskStateToJSON } from "@a2a-js/sdk";
import {
  ClientFactory,
  ClientFactoryOptions,
  DefaultAgentCardResolver,
  JsonRpcTransportFactory,
} from "@a2a-js/sdk/client";
import { AgentEvent, DefaultRequestHandler, InMemoryTaskStore } from "@a2a-js/sdk/server";
import { UserBuilder, agentCardHandler, jsonRpcHandler } from "@a2a-js/sdk/server/express";
import express from "express";

const SLOW_MS = 8000;
const RUNNING = [TaskState.TASK_STATE_SUBMITTED, TaskState.TASK_STATE_WORKING];

const part = (text) => ({ content: { $case: "text", value: text }, filename: "", mediaType: "text/plain" });
const textOf = (parts) => parts.map((one) => (one.content?.$case === "text" ? one.content.value : "")).join("");

// Works, and answers with what it was told.
class Echo {
  async execute({ taskId, contextId, userMessage }, bus) {
    const status = (state) => ({ state, timestamp: new Date().toISOString() });
    const task = { id: taskId, contextId, artifacts: [], history: [userMessage] };
    bus.publish(AgentEvent.task({ ...task, status: status(TaskState.TASK_STATE_SUBMITTED) }));
    bus.publish(AgentEvent.statusUpdate({ taskId, contextId, status: status(TaskState.TASK_STATE_WORKING) }));
    const text = textOf(userMessage.parts);
    if (text.startsWith("slow")) await pause(SLOW_MS);
    const artifact = { artifactId: randomUUID(), name: "echo", description: "", parts: [part(`echo: ${text}`)], extensions: [] };
    bus.publish(AgentEvent.artifactUpdate({ taskId, contextId, artifact, append: false, lastChunk: true }));
    bus.publish(AgentEvent.statusUpdate({ taskId, contextId, status: status(TaskState.TASK_STATE_COMPLETED) }));
    bus.finished();
  }

  async cancelTask() {}
}

function agent() {
  const app = express();
  const server = app.listen(0, "127.0.0.1", () => {
    const url = `http://127.0.0.1:${server.address().port}/`;
    const card = {
      name: "Echo", description: "Answers with what it was told.", version: "1.0.0",
      capabilities: { streaming: true, pushNotifications: false, extendedAgentCard: false, extensions: [] },
      defaultInputModes: ["text/plain"], defaultOutputModes: ["text/plain"],
      skills: [{ id: "echo", name: "Echo", description: "Echo", tags: ["echo"], examples: [], inputModes: [], outputModes: [], securityRequirements: [] }],
      supportedInterfaces: [{ url, protocolBinding: "JSONRPC", protocolVersion: "1.0", tenant: "" }],
      securitySchemes: {}, securityRequirements: [], signatures: [],
    };
    const requestHandler = new DefaultRequestHandler(card, new InMemoryTaskStore(), new Echo());
    const userBuilder = UserBuilder.noAuthentication;
    app.use(`/${AGENT_CARD_PATH}`, agentCardHandler({ agentCardProvider: requestHandler }));
    app.use("/", jsonRpcHandler({ requestHandler, userBuilder }));
    console.log(`listening on ${url}`);
  });
}

// What one job came to: the text, and the states that were seen on the way.
async function done({ base, token, mode, text }) {
  const fetchImpl = (url, init) => {
    const headers = new Headers(init?.headers);
    headers.set("Authorization", `Bearer ${token}`);
    return fetch(url, { ...init, headers });
  };
  const factory = new ClientFactory(
    ClientFactoryOptions.createFrom(ClientFactoryOptions.default, {
      cardResolver: new DefaultAgentCardResolver({ fetchImpl }),
      transports: [new JsonRpcTransportFactory({ fetchImpl })],
    }),
  );
  const client = await factory.createFromUrl(`${base}/`);
  const request = {
    tenant: "",
    message: {
      messageId: randomUUID(), role: Role.ROLE_USER, parts: [part(text)],
      taskId: "", contextId: "", extensions: [], referenceTaskIds: [],
    },
    configuration: mode === "polling" ? { acceptedOutputModes: [], returnImmediately: true } : undefined,
  };
  const states = [];
  const artifacts = [];
  if (mode === "streaming") {
    for await (const { payload } of client.sendMessageStream(request)) {
      if (payload.$case === "artifactUpdate") artifacts.push(payload.value.artifact);
      else states.push(payload.value.status.state);
      if (payload.$case === "task") artifacts.push(...payload.value.artifacts);
    }
  } else {
    let task = await client.sendMessage(request);
    states.push(task.status.state);
    while (mode === "polling" && RUNNING.includes(task.status.state)) {
      await pause(100);
      task = await client.getTask({ id: task.id, tenant: "" });
      states.push(task.status.state);
    }
    artifacts.push(...task.artifacts);
  }
  return { text: artifacts.map((artifact) => textOf(artifact.parts)).join(""), states: states.map(taskStateToJSON) };
}

async function client() {
  const report = async (job) => {
    // Whatever goes wrong, the check tells which job it was.
    const result = await done(job).catch((error) => ({ error: String(error) }));
    console.log(JSON.stringify({ job, ...result }));
  };
  await Promise.all(JSON.parse(await read(process.stdin)).map(report));
}

await (process.argv[2] === "agent" ? agent() : client());
