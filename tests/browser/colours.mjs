// How far colours are apart: for reading (WCAG's contrast) and for telling one from another, by people who see fewer of them.

/** Machado, Oliveira and Fernandes 2009, full severity: what linear RGB looks like without one kind of cone. */
export const VISIONS = {
  usual: [[1, 0, 0], [0, 1, 0], [0, 0, 1]],
  protanopia: [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
  deuteranopia: [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.01182, 0.04294, 0.968881]],
  tritanopia: [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.3039]],
};

const linear = (text) => text.match(/[\d.]+/g).slice(0, 3).map((part) => (part / 255 <= 0.04045 ? part / 255 / 12.92 : ((part / 255 + 0.055) / 1.055) ** 2.4));
const times = (matrix, vector) => matrix.map((row) => row.reduce((sum, factor, n) => sum + factor * vector[n], 0));
const luminance = (text) => times([[0.2126, 0.7152, 0.0722]], linear(text))[0];

export function contrast(a, b) {
  const [dark, light] = [luminance(a), luminance(b)].sort((x, y) => x - y);
  return (light + 0.05) / (dark + 0.05);
}

function lab(rgb) {
  const cube = (t) => (t > 0.008856 ? Math.cbrt(t) : 7.787 * t + 16 / 116);
  const xyz = times([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]], rgb);
  const [x, y, z] = [cube(xyz[0] / 0.95047), cube(xyz[1]), cube(xyz[2] / 1.08883)];
  return [116 * y - 16, 500 * (x - y), 200 * (y - z)];
}

/** The distance in CIELAB as one kind of vision sees it; 2 is just to be noticed side by side. */
export function apart(a, b, vision) {
  const seen = [a, b].map((text) => lab(times(VISIONS[vision], linear(text)).map((part) => Math.max(0, Math.min(1, part)))));
  return Math.hypot(...seen[0].map((part, n) => part - seen[1][n]));
}
