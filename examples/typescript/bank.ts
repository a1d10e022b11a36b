// A client of the bank in another language: it knows NATS and the wire contract, nothing else.
//
//     NATS_URL=nats://127.0.0.1:4222 npm start

import { randomUUID } from "node:crypto";
import { AckPolicy, connect, createInbox, DeliverPolicy, headers, JSONCodec } from "nats";
import type { NatsConnection } from "nats";

const TIMEOUT = 10_000; // ms
const json = JSONCodec<any>();

interface Outcome {
  status: "success" | "rejected" | "error";
  code: string;
  message: string;
  command_id: string;
  version: number;
  position: number;
  event_ids: string[];
}

/** Sends a command, and waits for its outcome. Repeated with the same id, it is carried out once. */
async function execute(
  nats: NatsConnection,
  subject: string,
  id: string,
  data: object,
  commandId: string = randomUUID(),
): Promise<Outcome> {
  const inbox = createInbox();
  const outcomes = nats.subscribe(inbox, { max: 1, timeout: TIMEOUT });
  const head = headers();
  head.set("Nats-Msg-Id", commandId);
  head.set("X-Aggregate-ID", id);
  head.set("X-Reply-To", inbox);
  // The reply is the stream's: from here on the command is durable, and will be carried out.
  const stored = await nats.request(subject, json.encode(data), { headers: head, timeout: TIMEOUT });
  const accepted = json.decode(stored.data);
  if (accepted.error) {
    throw new Error(`not accepted: ${accepted.error.description}`);
  }
  if (accepted.duplicate) {
    // This id was accepted before, and nothing was stored: the outcome was sent to the first inbox.
    outcomes.unsubscribe();
    return (await ask(nats, `${subject.split(".")[0]}.query.command.get_status`, accepted)).answer;
  }
  for await (const message of outcomes) {
    return json.decode(message.data);
  }
  throw new Error("no outcome");
}

/** Asks a query; with `position`, once the read model reflects that position of the log. */
async function ask(
  nats: NatsConnection,
  subject: string,
  data: object,
  position?: number,
): Promise<{ answer: any; position: number }> {
  const head = headers();
  if (position !== undefined) {
    head.set("X-Wait-Position", String(position));
  }
  const reply = await nats.request(subject, json.encode(data), { headers: head, timeout: TIMEOUT });
  const code = reply.headers?.get("Nats-Service-Error-Code");
  if (code) {
    throw new Error(`${code}: ${reply.headers?.get("Nats-Service-Error")}`);
  }
  return { answer: json.decode(reply.data), position: Number(reply.headers?.get("X-Position")) };
}

/** The first published events of an account: one consumer, which could be durable. */
async function firstEvents(nats: NatsConnection, id: string, count: number): Promise<string[]> {
  const stream = "BANK_EVENT";
  const manager = await nats.jetstreamManager();
  const consumer = await manager.consumers.add(stream, {
    filter_subject: "bank.event.account.*",
    ack_policy: AckPolicy.None,
    deliver_policy: DeliverPolicy.All,
    inactive_threshold: 30_000_000_000, // ns
  });
  const found: string[] = [];
  const reader = await nats.jetstream().consumers.get(stream, consumer.name);
  while (found.length < count) {
    const message = await reader.next({ expires: TIMEOUT });
    if (message === null) {
      throw new Error("no event in time");
    }
    if (message.headers?.get("X-Aggregate-ID") === id) {
      const version = message.headers.get("X-Aggregate-Version");
      found.push(`v${version} ${message.headers.get("X-Event-Type")} ${message.string()}`);
    }
  }
  return found;
}

/** Connects with the credentials in the URL: user and password, or a token alone. */
function connected(text: string): Promise<NatsConnection> {
  const url = new URL(text);
  const [user, pass] = [url.username, url.password].map(decodeURIComponent);
  if (user === "") {
    return connect({ servers: url.host });
  }
  return connect(pass === "" ? { servers: url.host, token: user } : { servers: url.host, user, pass });
}

const nats = await connected(process.env.NATS_URL ?? "nats://127.0.0.1:4222");
try {
  const account = process.argv[2] ?? "zoe";
  const commandId = randomUUID();
  const first = await execute(nats, "bank.cmd.account.deposit", account, { amount: 50 }, commandId);
  console.log(`deposit: ${first.status}, version ${first.version}`);

  const again = await execute(nats, "bank.cmd.account.deposit", account, { amount: 50 }, commandId);
  console.log(`the same again: ${again.event_ids[0] === first.event_ids[0] ? "same" : "other"} event`);

  const refused = await execute(nats, "bank.cmd.account.withdraw", account, { amount: 80 });
  console.log(`withdraw: ${refused.status}, ${refused.code}: ${refused.message}`);

  const shown = await ask(nats, "bank.query.account.get", { id: account }, first.position);
  console.log(`balance: ${shown.answer.balance}`);

  for (const event of await firstEvents(nats, account, 1)) {
    console.log(`event: ${event}`);
  }
} finally {
  await nats.drain();
}
