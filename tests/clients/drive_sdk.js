// Drives the npm package @mapbox/mapbox-sdk. Staging is not its business: it is told of an object that is staged already,
// and asks for credentials whose key it prints.
const uploadsService = require('@mapbox/mapbox-sdk/services/uploads');

const [origin, tileset, ...urls] = process.argv.slice(2);
const accessToken = process.env.MAPBOX_ACCESS_TOKEN;

async function finished(uploads, id) {
  for (;;) {
    const { body } = await uploads.getUpload({ uploadId: id }).send();
    if (body.complete || body.error) return body;
    await new Promise(resolve => setTimeout(resolve, 50));
  }
}

function pages(request) {
  return new Promise((resolve, reject) => {
    const seen = [];
    request.eachPage((error, response, next) => {
      if (error) return reject(error);
      seen.push(response.body.map(upload => upload.id));
      if (!response.hasNextPage()) return resolve(seen);
      next();
    });
  });
}

async function main() {
  const uploads = uploadsService({ accessToken, origin });
  const credentials = (await uploads.createUploadCredentials().send()).body;
  const made = [];
  for (const [number, url] of urls.entries()) {
    const config = { tileset: `${tileset}${number}`, url, name: `Number ${number}` };
    made.push((await uploads.createUpload(config).send()).body.id);
  }
  const ends = [];
  for (const id of made) ends.push(await finished(uploads, id));
  const newest = await pages(uploads.listUploads());
  const oldest = await pages(uploads.listUploads({ reverse: true }));
  const removed = await uploads.deleteUpload({ uploadId: made[0] }).send();
  const refused = await uploads.getUpload({ uploadId: made[0] }).send().catch(error => error);
  const left = await pages(uploads.listUploads());
  const answer = { credentials: Object.keys(credentials).sort(), made, ends, newest, oldest, left };
  answer.removed = removed.statusCode;
  answer.refused = [refused.statusCode, refused.body];
  process.stdout.write(JSON.stringify(answer));
}

main().catch(error => {
  process.stderr.write(`${error.stack || JSON.stringify(error)}\n${error.message}\n`);
  process.exit(1);
});
