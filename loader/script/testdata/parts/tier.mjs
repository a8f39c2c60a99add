import { base } from "../parts/base.mjs";
export const tier = (x) => base + (x > 100 ? "gold" : "none");
