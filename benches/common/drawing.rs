//! What the pictures of the benchmarks share: the frame, the words, and greys for light and dark.

const STYLE: &str = "\
text { font: 12px system-ui, sans-serif; fill: #24292f } .title { font-size: 15px; font-weight: 600 }
.faint { fill: #59636e } .end { text-anchor: end } .middle { text-anchor: middle } .grid { stroke: #d1d9e0; stroke-width: 1 }
@media (prefers-color-scheme: dark) { text { fill: #e6edf3 } .faint { fill: #9198a1 } .grid { stroke: #3d444d } }
";

/// A whole file of this width and height. `style` is what only this picture has.
pub fn file((width, height): (f64, f64), label: &str, style: &str, body: &str) -> String {
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" role=\"img\" \
         aria-label=\"{label}\">\n<style>{STYLE}{style}</style>\n{body}</svg>\n"
    )
}

pub fn text(x: f64, y: f64, class: &str, words: &str) -> String {
    format!("<text x=\"{x:.1}\" y=\"{y:.1}\" class=\"{class}\">{words}</text>\n")
}
