//! What our crate keeps to.

use crate::shape::Shape;

const MEDIAN: usize = 4;
const NINE_IN_TEN: usize = 14;
const UNSAFES: usize = 2;

/// What exceeds the limits, in words.
pub fn exceeded(shape: &Shape) -> Vec<String> {
    let (median, most) = (shape.at_most(50), shape.at_most(90));
    let mut found: Vec<String> =
        shape.cycles.iter().map(|cycle| format!("a cycle:\n  {}", cycle.imports.join("\n  "))).collect();
    if median > MEDIAN {
        found.push(format!("half of the bodies have {median} lines or more, and {MEDIAN} is the limit"));
    }
    if most > NINE_IN_TEN {
        found.push(format!("one body in ten has {most} lines or more, and {NINE_IN_TEN} is the limit"));
    }
    if shape.unsafes != UNSAFES {
        found.push(format!("`unsafe` stands there {} times, and not {UNSAFES} times", shape.unsafes));
    }
    found
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::body::Body;
    use crate::shape::Cycle;

    /// With ten bodies: five of the first length, four of the second, and one of a hundred lines.
    fn shape(half: usize, nine_in_ten: usize) -> Shape {
        let lengths = [&[100][..], &[nine_in_ten; 4], &[half; 5]].concat();
        let body = |lines| (PathBuf::new(), Body { name: String::new(), line: 1, lines });
        Shape { bodies: lengths.into_iter().map(body).collect(), unsafes: 2, ..Shape::default() }
    }

    #[test]
    fn what_is_at_the_limits_passes() {
        assert_eq!(exceeded(&shape(4, 14)), [""; 0]);
    }

    #[test]
    fn each_limit_that_is_exceeded_is_told() {
        assert_eq!(exceeded(&shape(5, 14)), ["half of the bodies have 5 lines or more, and 4 is the limit"]);
        assert_eq!(exceeded(&shape(4, 15)), ["one body in ten has 15 lines or more, and 14 is the limit"]);
        for unsafes in [1, 3] {
            let told = format!("`unsafe` stands there {unsafes} times, and not 2 times");
            assert_eq!(exceeded(&Shape { unsafes, ..shape(4, 14) }), [told]);
        }
        let cycle = Cycle {
            modules: Vec::new(),
            imports: vec!["a imports b in line 1".to_owned(), "b ..".to_owned()],
        };
        assert_eq!(
            exceeded(&Shape { cycles: vec![cycle], ..shape(4, 14) }),
            ["a cycle:\n  a imports b in line 1\n  b .."]
        );
    }
}
