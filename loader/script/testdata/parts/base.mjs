export const base = "tier ";
