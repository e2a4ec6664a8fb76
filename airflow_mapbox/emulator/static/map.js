// Shows one tileset's tiles, features or an image: pan, zoom, layers to switch, attributes of the feature at the pointer.
const COLORS = ["#3564e8", "#d1495b", "#2a9d8f", "#e09f3e", "#6a4c93", "#1b998b"];
const element = document.getElementById("map");
const tilejson = await (await fetch(element.dataset.tilejson)).json();

const layers = [{ id: "background", type: "background", paint: { "background-color": "#eef1f5" } }];
const shown = [];
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
  shown.push({ name: layer.id, color, ids });
});

const map = new maplibregl.Map({
  container: element,
  attributionControl: false,
  bounds: tilejson.bounds,
  fitBoundsOptions: { padding: 30, maxZoom: 14 },
  style: {
    version: 8,
    sources: {
      tileset: { ...(isImage ? { type: "raster", tileSize: 256 } : { type: "vector" }), tiles: tilejson.tiles,
        minzoom: tilejson.minzoom, maxzoom: tilejson.maxzoom, bounds: tilejson.bounds },
    },
    layers,
  },
});
map.addControl(new maplibregl.NavigationControl({ showCompass: false }), "top-right");
map.addControl(new maplibregl.ScaleControl());

const choices = document.getElementById("layers");
for (const { name, color, ids } of shown) {
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
  const [feature] = map.queryRenderedFeatures(event.point, { layers: shown.flatMap(({ ids }) => ids) });
  map.getCanvas().style.cursor = feature ? "pointer" : "";
  attributes.replaceChildren();
  for (const [name, value] of Object.entries(feature?.properties ?? {})) {
    const row = attributes.insertRow();
    row.insertCell().textContent = name;
    row.insertCell().textContent = String(value);
  }
});
const zoom = document.getElementById("zoom");
const tellZoom = () => { zoom.textContent = map.getZoom().toFixed(1); };
map.on("zoom", tellZoom);
map.once("idle", () => {
  tellZoom();
  // For whoever waits for the picture: how many features are drawn, or one image.
  const ids = shown.flatMap(({ ids }) => ids);
  element.dataset.drawn = isImage ? 1 : map.queryRenderedFeatures({ layers: ids }).length;
});
