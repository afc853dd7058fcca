/* Answers from what the page has kept where the server does not answer. */
"use strict";

self.addEventListener("install", () => self.skipWaiting());
self.addEventListener("activate", (event) => event.waitUntil(self.clients.claim()));

self.addEventListener("fetch", (event) => {
  const { request } = event;
  if (request.method !== "GET" || new URL(request.url).origin !== self.location.origin) return;
  // The server first, so that nobody sees a page of yesterday.
  event.respondWith(fetch(request).catch(async () => (await caches.match(request)) ?? Response.error()));
});
