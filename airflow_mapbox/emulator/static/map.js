// Shows a tileset on a map: features or an image, a checkbox per layer, the attributes of the feature at the pointer.
const COLORS = ["#3564e8", "#d1495b", "#2a9d8f", "#e09f3e", "#6a4c93", "#1b998b"];
const element = document.getElementById("map");
const tilejson = await (await fetch(element.dataset.tilejson)).json();

// Coarse land and borders for orientation. They are not part of the tileset.
const layers = [
  { id: "water", type: "background", paint: { "background-color": "#dfe8f0" } },
  { id: "land", type: "fill", source: "countries", paint: { "fill-color": "#f8f6f1" } },
  { id: "borders", type: "line", source: "countries", paint: { "line-color": "#b9bfc6", "line-width": 0.7 } },
];
const tilesetLayers = [];
const isImage = tilejson.format !== "pbf";
if (isImage) layers.push({ id: "image", type: "raster", source: "tileset" });
tilejson.vector_layers.forEach((layer, index) => {
  const color = COLORS[index % COLORS.length];
  const common = { source: "tileset", "source-layer": layer.id };
  const kinds = {
    fill: [["==", ["geometry-type"], "Polygon"], { "fill-color": color, "fill-opacity": 0.25 }],
    line: [["!=", ["geometry-type"], "Point"], { "line-color": color, "line-width": 1.2 }],
    circle: [["==", ["geometry-type"], "Point"], { "circle-color": color, "circle-radius": 4, "circle-opacity": 0.8,
      "circle-stroke-color": "#fff", "circle-stroke-width": 0.8 }],
  };
  const ids = Object.entries(kinds).map(([type, [filter, paint]]) => {
    const id = `${layer.id} ${type}`;
    layers.push({ id, type, filter, paint, ...common });
    return id;
  });
  tilesetLayers.push({ name: layer.id, color, ids });
});

const map = new maplibregl.Map({
  container: element,
  attributionControl: { compact: false },
  bounds: tilejson.bounds,
  fitBoundsOptions: { padding: 30, maxZoom: 14 },
  style: {
    version: 8,
    sources: {
      countries: { type: "geojson", data: `${location.origin}/static/countries.geojson`,
        attribution: "Land: Natural Earth" },
      tileset: { ...(isImage ? { type: "raster", tileSize: 256 } : { type: "vector" }), tiles: tilejson.tiles,
        minzoom: tilejson.minzoom, maxzoom: tilejson.maxzoom, bounds: tilejson.bounds },
    },
    layers,
  },
});
map.addControl(new maplibregl.NavigationControl({ showCompass: false }), "top-right");
map.addControl(new maplibregl.ScaleControl());

const choices = document.getElementById("layers");
for (const { name, color, ids } of tilesetLayers) {
  const label = document.createElement("label");
  const box = Object.assign(document.createElement("input"), { type: "checkbox", checked: true });
  box.addEventListener("change", () => {
    for (const id of ids) map.setLayoutProperty(id, "visibility", box.checked ? "visible" : "none");
  });
  const swatch = document.createElement("span");
  swatch.className = "swatch";
  swatch.style.background = color;
  label.append(box, swatch, name);
  choices.append(label);
}

const attributes = document.getElementById("attributes");
map.on("mousemove", (event) => {
  const [feature] = map.queryRenderedFeatures(event.point, { layers: tilesetLayers.flatMap(({ ids }) => ids) });
  map.getCanvas().style.cursor = feature ? "pointer" : "";
  attributes.replaceChildren();
  for (const [name, value] of Object.entries(feature?.properties ?? {})) {
    const row = attributes.insertRow();
    row.insertCell().textContent = name;
    row.insertCell().textContent = String(value);
  }
});
const zoom = document.getElementById("zoom");
const showZoom = () => { zoom.textContent = map.getZoom().toFixed(1); };
map.on("zoom", showZoom);
map.once("idle", () => {
  showZoom();
  // Tests wait for these numbers: drawn features (1 for an image) and drawn countries.
  const ids = tilesetLayers.flatMap(({ ids }) => ids);
  element.dataset.land = map.queryRenderedFeatures({ layers: ["land"] }).length;
  element.dataset.drawn = isImage ? 1 : map.queryRenderedFeatures({ layers: ids }).length;
});
