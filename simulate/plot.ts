/** Line plots as SVG, one below the other: percent (or what else) against a number. */

export interface Plot {
  title: string
  /** what the horizontal axis counts */
  across: string
  /** of the vertical axis; 100 when it is not given */
  highest?: number
  series: { name: string; points: readonly (readonly [number, number])[] }[]
}

const [width, height, margin] = [640, 280, 48]
const colours = ['#1b6ca8', '#c8553d', '#4f772d', '#6b4e71', '#d19a1f', '#2a9d8f', '#555555']

export function linePlot(plots: readonly Plot[]): string {
  const bodies = plots.map((plot, i) => `<g transform="translate(0 ${i * height})">${body(plot)}</g>`)
  const all = height * plots.length
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${all}" font-family="sans-serif" font-size="12">
<rect width="${width}" height="${all}" fill="white"/>
${bodies.join('\n')}
</svg>
`
}

function body({ title, across, highest = 100, series }: Plot): string {
  const farthest = Math.max(1, ...series.flatMap(({ points }) => points.map(([x]) => x)))
  const x = (value: number) => margin + (value / farthest) * (width - 2 * margin)
  const y = (value: number) => height - margin - (value / highest) * (height - 2 * margin)
  const grid = [0, 0.25, 0.5, 0.75, 1]
    .map((part) => Number((part * highest).toPrecision(3)))
    .map(
      (value) =>
        `<line x1="${margin}" x2="${width - margin}" y1="${y(value)}" y2="${y(value)}" stroke="#ddd"/>` +
        `<text x="${margin - 6}" y="${y(value) + 4}" text-anchor="end">${value}</text>`,
    )
  const ticks = Array.from({ length: 7 }, (_, i) => Math.round((farthest * i) / 6)).map(
    (value) => `<text x="${x(value)}" y="${height - margin + 18}" text-anchor="middle">${value}</text>`,
  )
  const lines = series.map(({ name, points }, i) => {
    const colour = colours[i % colours.length] ?? 'black'
    const path = points.map(([a, b]) => `${x(a).toFixed(1)},${y(b).toFixed(1)}`).join(' ')
    return (
      `<polyline points="${path}" fill="none" stroke="${colour}" stroke-width="2"/>` +
      `<text x="${width - margin}" y="${margin - 8 - 16 * (series.length - 1 - i)}" text-anchor="end" fill="${colour}">${name}</text>`
    )
  })
  const label = `<text x="${width / 2}" y="${height - 10}" text-anchor="middle">${across}</text>`
  return `<text x="${margin}" y="24" font-size="15">${title}</text>${[...grid, ...ticks, label, ...lines].join('')}`
}
