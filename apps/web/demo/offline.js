/** Keeps what the page needs, so that it opens without a network. */

const NAME = "pocketseq-";

/**
 * Keeps all files of this build of the site, and forgets those of others.
 *
 * @param site  What site.json holds.
 * @param loaded  The URLs of what a model's worker has loaded.
 * @returns {Promise<string>}  How that ended, for people.
 */
export async function keepForOffline(site, loaded) {
  if (!navigator.serviceWorker || !globalThis.caches) return "This browser does not keep pages for use without a network.";
  try {
    await navigator.serviceWorker.register("service-worker.js");
    const cache = await caches.open(NAME + site.build);
    const own = loaded.filter((url) => new URL(url).origin === location.origin);
    const urls = ["site.json", ...site.files, ...own].map((url) => new URL(url, location.href).href);
    for (const url of new Set(urls)) {
      if (!(await cache.match(url))) await cache.add(url);
    }
    // Only now: until all of these are there, the former ones still serve.
    for (const name of await caches.keys()) {
      if (name.startsWith(NAME) && name !== NAME + site.build) await caches.delete(name);
    }
    await navigator.serviceWorker.ready;
    return "Kept in this browser: the page now opens without a network, too.";
  } catch (error) {
    return `Not kept for use without a network: ${error.message}`;
  }
}
