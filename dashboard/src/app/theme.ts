import { type CSSVariablesResolver, createTheme, type MantineColorsTuple } from "@mantine/core";

// Around the palette's blue (#0072B2); shade 7 carries white text at 6.9:1.
const rudder: MantineColorsTuple = [
  "#e8f4fb",
  "#cfe6f4",
  "#a0cde9",
  "#6db2dc",
  "#449cd2",
  "#2b8ecb",
  "#0072b2",
  "#005f96",
  "#00507f",
  "#003f66",
];

export const theme = createTheme({
  primaryColor: "rudder",
  primaryShade: { light: 7, dark: 7 },
  colors: { rudder },
  defaultRadius: "md",
  cursorType: "pointer",
  respectReducedMotion: true,
  fontFamily:
    'system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", "Liberation Sans", "Helvetica Neue", sans-serif',
  fontFamilyMonospace: 'ui-monospace, "SF Mono", Menlo, Consolas, "Liberation Mono", monospace',
});

// Mantine's own dimmed text (3.3:1), placeholders and error text fail the contrast that WCAG AA asks for.
export const cssVariables: CSSVariablesResolver = () => ({
  variables: {
    "--trimtab-blue": "#0072b2",
    "--trimtab-orange": "#e69f00",
    "--trimtab-green": "#009e73",
    "--trimtab-purple": "#cc79a7",
    "--trimtab-sky": "#56b4e9",
    "--trimtab-vermilion": "#d55e00",
  },
  light: {
    "--mantine-color-body": "#ffffff",
    "--mantine-color-text": "#1c2733",
    "--mantine-color-dimmed": "#55616e",
    "--mantine-color-placeholder": "#66717d",
    "--mantine-color-error": "#b3261e",
    "--trimtab-grey": "#66717d",
    "--trimtab-line": "#e1e6eb",
    "--trimtab-wash": "#eef2f5",
    "--trimtab-ground": "#f6f8fa",
  },
  dark: {
    "--mantine-color-body": "#18212b",
    "--mantine-color-text": "#e6ebf0",
    "--mantine-color-dimmed": "#a9b5c1",
    "--mantine-color-placeholder": "#94a1ae",
    "--mantine-color-error": "#ff9d94",
    "--mantine-color-default": "#212c38",
    "--mantine-color-default-hover": "#2a3744",
    "--mantine-color-default-border": "#3b4957",
    "--mantine-color-default-color": "#e6ebf0",
    "--trimtab-grey": "#9aa6b2",
    "--trimtab-line": "#2c3844",
    "--trimtab-wash": "#25313d",
    "--trimtab-ground": "#111820",
  },
});
