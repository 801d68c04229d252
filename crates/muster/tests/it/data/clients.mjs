// An action around GitHub's own clients, as they are on npm. `do` says which of them is to do what.
import { createPublicKey, verify } from 'node:crypto';
import { readFileSync } from 'node:fs';
import artifact from '@actions/artifact';
import * as cache from '@actions/cache';
import * as core from '@actions/core';
import * as github from '@actions/github';
import * as tools from '@actions/tool-cache';

const [what, name] = core.getInput('do').split(' ');
const say = (text) => core.info(`said: ${text}`);
const deeds = {
  async upload() {
    const { size, digest, id } = await artifact.uploadArtifact(name, ['out/large', 'out/small'], 'out');
    say(`${name} has an id: ${id > 0}, a size: ${size > 0}, a digest: ${digest.length}`);
  },
  async download() {
    const { artifacts } = await artifact.listArtifacts({ latest: true });
    say(artifacts.map((one) => one.name).sort().join(' '));
    const { artifact: found } = await artifact.getArtifact(name);
    const done = await artifact.downloadArtifact(found.id, { path: 'got', expectedHash: found.digest });
    say(`digest differs: ${done.digestMismatch}, small is ${readFileSync('got/small', 'utf8').trim()}`);
  },
  async remove() {
    await artifact.deleteArtifact(name);
    say((await artifact.listArtifacts()).artifacts.length);
  },
  async save() {
    say((await cache.saveCache(['out'], name)) > 0);
  },
  async restore() {
    say(await cache.restoreCache(['out'], name, ['key-']));
  },
  async identify() {
    const token = await core.getIDToken(name);
    const [header, body, signature] = token.split('.');
    const read = (part) => JSON.parse(Buffer.from(part, 'base64url').toString());
    const claims = read(body);
    const about = await (await fetch(`${claims.iss}/.well-known/openid-configuration`)).json();
    const { keys } = await (await fetch(about.jwks_uri)).json();
    const key = createPublicKey({ key: keys.find(({ kid }) => kid === read(header).kid), format: 'jwk' });
    const real = verify('RSA-SHA256', `${header}.${body}`, key, Buffer.from(signature, 'base64url'));
    say(`${real} ${claims.aud} ${claims.sub} ${claims.job_workflow_ref} ${claims.ref_protected} ${token}`);
  },
  async tools() {
    core.setOutput('found', tools.find('nothing', '1.0.0'));
    core.exportVariable('FROM_CORE', 'yes');
    core.setSecret('not-to-be-seen');
    await core.summary.addHeading('Clients').write();
    const cached = await tools.cacheDir('out', 'muster-tool', '1.2.3');
    say(`${tools.find('muster-tool', '1.x') === cached} ${github.context.eventName} ${github.context.repo.owner} not-to-be-seen`);
  },
};
try {
  await deeds[what]();
} catch (error) {
  core.setFailed(error.message);
}
