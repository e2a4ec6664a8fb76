// Refreshes the lists every second: fetches the page again and replaces its content.
const main = document.querySelector("main");
setInterval(async () => {
  try {
    const answer = await fetch(location.href, { cache: "no-store" });
    const fresh = new DOMParser().parseFromString(await answer.text(), "text/html").querySelector("main");
    if (fresh.innerHTML !== main.innerHTML) main.innerHTML = fresh.innerHTML;
  } catch {
    // The emulator was stopped. The page still shows the last state.
  }
}, 1000);
