// The JavaScript client (npm package "modal") against an emulator: MODAL_SERVER_URL and a token are in the environment.
// Prints one line for each check that failed, and exits with 1 if any did.

import assert from "node:assert/strict";
import { ModalClient } from "modal";

const modal = new ModalClient();
const app = await modal.apps.fromName("javascript", { createIfMissing: true });
const image = modal.images.fromRegistry("alpine:3.21");
const create = (...command) => modal.sandboxes.create(app, image, { command });

async function rejected(promise, name) {
  const error = await promise.then(() => undefined, (reason) => reason);
  assert.equal(error?.name, name, String(error?.message));
}

const checks = {
  async "stdin, stdout and the exit code"() {
    const sandbox = await create("cat");
    await sandbox.stdin.writeText("mirrored");
    await sandbox.stdin.close();
    assert.equal(await sandbox.stdout.readText(), "mirrored");
    assert.equal(await sandbox.wait(), 0);
    assert.equal(await sandbox.poll(), 0);
  },
  async "exec: both outputs, the exit code, stdin, environment"() {
    const sandbox = await modal.sandboxes.create(app, image);
    const process = await sandbox.exec(["sh", "-c", "cat; echo $NAME >&2; exit 3"], { env: { NAME: "value" } });
    await process.stdin.writeText("in");
    await process.stdin.close();
    assert.equal(await process.stdout.readText(), "in");
    assert.equal(await process.stderr.readText(), "value\n");
    assert.equal(await process.wait(), 3);
    assert.equal(await sandbox.terminate({ wait: true }), 137);
  },
  async "a GPU sandbox, which is of the first version"() {
    const sandbox = await modal.sandboxes.create(app, image, { gpu: "A10G", command: ["sh", "-c", "echo out; echo err >&2; cat"] });
    const reader = sandbox.stdout.getReader();
    assert.equal((await reader.read()).value, "out\n");
    reader.releaseLock();
    const process = await sandbox.exec(["echo", "gpu"]);
    assert.equal(await process.stdout.readText(), "gpu\n");
    await sandbox.terminate();
    assert.equal(await (await modal.sandboxes.fromId(sandbox.sandboxId)).stderr.readText(), "err\n");
  },
  async "a timeout"() {
    const sandbox = await modal.sandboxes.create(app, image, { command: ["sleep", "60"], timeoutMs: 1000 });
    assert.equal(await sandbox.wait(), 124);
  },
  async "names, tags and lists"() {
    const sandbox = await modal.sandboxes.create(app, image, { name: "named", tags: { kind: "first" } });
    assert.equal((await modal.sandboxes.fromName("javascript", "named")).sandboxId, sandbox.sandboxId);
    await rejected(modal.sandboxes.create(app, image, { name: "named" }), "AlreadyExistsError");
    await sandbox.setTags({ kind: "second" });
    assert.deepEqual(await sandbox.getTags(), { kind: "second" });
    const found = [];
    for await (const one of modal.sandboxes.list({ appId: app.appId, tags: { kind: "second" } })) found.push(one.sandboxId);
    assert.deepEqual(found, [sandbox.sandboxId]);
    await sandbox.terminate({ wait: true });
    await rejected(modal.sandboxes.fromName("javascript", "named"), "NotFoundError");
  },
  async "a Volume and a Secret"() {
    const volume = await modal.volumes.fromName("kept", { createIfMissing: true });
    const secret = await modal.secrets.fromObject({ WORD: "written" });
    const options = { volumes: { "/kept": volume }, env: { PLACE: "/kept" } };
    const writer = await modal.sandboxes.create(app, image, {
      ...options, secrets: [secret], command: ["sh", "-c", "echo $WORD > $PLACE/file"],
    });
    assert.equal(await writer.wait(), 0);
    const reader = await modal.sandboxes.create(app, image, { ...options, command: ["sh", "-c", "cat $PLACE/file"] });
    assert.equal(await reader.stdout.readText(), "written\n");
    await modal.volumes.delete("kept");
    await rejected(modal.volumes.fromName("kept"), "NotFoundError");
  },
  async "a Queue"() {
    const queue = await modal.queues.ephemeral();
    await queue.putMany([1, "two", { three: 3 }]);
    assert.equal(await queue.len(), 3);
    assert.deepEqual(await queue.getMany(3), [1, "two", { three: 3 }]);
    await rejected(queue.get({ timeoutMs: 0 }), "QueueEmptyError");
    queue.closeEphemeral();
  },
  async "files of a running sandbox"() {
    const sandbox = await modal.sandboxes.create(app, image);
    await sandbox.filesystem.writeText("hello", "/tmp/file");
    assert.equal(await sandbox.filesystem.readText("/tmp/file"), "hello");
    await sandbox.terminate();
  },
  async "what is not there"() {
    await rejected(modal.apps.fromName("no-such-app"), "NotFoundError");
    await rejected(modal.secrets.fromName("no-such-secret"), "NotFoundError");
    await rejected(modal.proxies.fromName("no-such-proxy"), "NotFoundError");
    await rejected(modal.images.fromId("im-none"), "NotFoundError");
  },
};

let failed = 0;
for (const [name, check] of Object.entries(checks)) {
  try {
    await check();
  } catch (error) {
    failed += 1;
    console.log(`${name}: ${error.name}: ${error.message}`);
  }
}
modal.close();
process.exit(failed ? 1 : 0);
