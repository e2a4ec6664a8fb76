// Drives the tilesets service of the npm package @mapbox/mapbox-sdk, as it is, on an account of tilesets.
const tilesetsService = require('@mapbox/mapbox-sdk/services/tilesets');

const [origin, deleted, changed] = process.argv.slice(2);
const accessToken = process.env.MAPBOX_ACCESS_TOKEN;

function pages(request) {
  return new Promise((resolve, reject) => {
    const seen = [];
    request.eachPage((error, response, next) => {
      if (error) return reject(error);
      seen.push(response.body.map(tileset => tileset.id));
      if (!response.hasNextPage()) return resolve(seen);
      next();
    });
  });
}

const failed = request => request.send().then(() => null, error => [error.statusCode, error.message]);

async function main() {
  const tilesets = tilesetsService({ accessToken, origin });
  const answer = {};
  answer.all = await pages(tilesets.listTilesets());
  answer.limited = await pages(tilesets.listTilesets({ limit: 2 }));
  answer.public = await pages(tilesets.listTilesets({ visibility: 'public' }));
  answer.raster = await pages(tilesets.listTilesets({ type: 'raster' }));
  answer.sorted = await pages(tilesets.listTilesets({ sortBy: 'modified' }));
  answer.first = (await tilesets.listTilesets({ limit: 1 }).send()).body[0];
  answer.tilejson = (await tilesets.tileJSONMetadata({ tilesetId: changed }).send()).body;
  const update = {
    tilesetId: changed, name: 'From the SDK', description: 'Changed', private: false,
    attribution: [{ text: '© SDK', link: 'https://example.com' }],
  };
  answer.updated = await tilesets.updateTileset(update).send()
    .then(response => [response.statusCode, response.body], error => [error.statusCode, error.message]);
  answer.deleted = await tilesets.deleteTileset({ tilesetId: deleted }).send()
    .then(response => [response.statusCode, response.body]);
  answer.again = await failed(tilesets.deleteTileset({ tilesetId: deleted }));
  answer.badStart = await failed(tilesets.listTilesets({ start: 'nowhere' }));
  answer.left = await pages(tilesets.listTilesets());
  process.stdout.write(JSON.stringify(answer));
}

main().catch(error => {
  process.stderr.write(`${error.stack || JSON.stringify(error)}\n${error.message}\n`);
  process.exit(1);
});
