// Keeps the list of uploads up to date: fetches the page again and puts its new content in the place of the old.
const main = document.querySelector("main");
setInterval(async () => {
  try {
    const answer = await fetch(location.href, { cache: "no-store" });
    const fresh = new DOMParser().parseFromString(await answer.text(), "text/html").querySelector("main");
    if (fresh.innerHTML !== main.innerHTML) main.innerHTML = fresh.innerHTML;
  } catch {
    // The emulator was stopped; the last state stays to be read.
  }
}, 1000);
