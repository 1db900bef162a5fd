import { defineConfig } from "vite";

// File names carry no hash: the built files are committed, and the gateway answers with ETags.
export default defineConfig({
  build: {
    outDir: "../static",
    emptyOutDir: true,
    target: "es2022",
    modulePreload: false,
    rollupOptions: {
      output: {
        entryFileNames: "assets/app.js",
        chunkFileNames: "assets/[name].js",
        assetFileNames: "assets/app.[ext]",
      },
    },
  },
  server: {
    proxy: {
      "/api": "http://127.0.0.1:6005",
      "/ws": { target: "ws://127.0.0.1:6005", ws: true },
    },
  },
});
