import react from "@vitejs/plugin-react";
import { defineConfig } from "vite";

const server = "http://127.0.0.1:8700";

export default defineConfig({
  plugins: [react()],
  // The server replaces this word by a fresh nonce in every page it sends; the content security policy names it.
  html: { cspNonce: "__CSP_NONCE__" },
  build: {
    target: "es2023",
    // Inlined assets would be data: URLs, which the content security policy refuses.
    assetsInlineLimit: 0,
    manifest: false,
  },
  server: {
    port: 5173,
    strictPort: true,
    proxy: Object.fromEntries(
      ["/api", "/v1", "/healthz", "/readyz", "/metrics"].map((path) => [path, { target: server }]),
    ),
  },
});
