//! Cycles: files that reach each other by imports.

use std::collections::BTreeSet;

use crate::imports::Imports;

/// The groups of two and more of which each reaches each. No file is in two.
pub fn cycles(imports: &Imports) -> Vec<BTreeSet<usize>> {
    let files: BTreeSet<usize> = imports.keys().map(|(from, _)| *from).collect();
    let groups: BTreeSet<BTreeSet<usize>> = files.iter().map(|file| around(*file, imports)).collect();
    groups.into_iter().filter(|group| group.len() > 1).collect()
}

/// Those that the file reaches and that reach it.
fn around(file: usize, imports: &Imports) -> BTreeSet<usize> {
    let there =
        reached(file, |file| imports.keys().filter(move |(from, _)| *from == file).map(|(_, to)| *to));
    let back = reached(file, |file| imports.keys().filter(move |(_, to)| *to == file).map(|(from, _)| *from));
    &there & &back
}

fn reached<N: Iterator<Item = usize>>(start: usize, next: impl Fn(usize) -> N) -> BTreeSet<usize> {
    let (mut found, mut open) = (BTreeSet::from([start]), vec![start]);
    while let Some(file) = open.pop() {
        open.extend(next(file).filter(|next| found.insert(*next)));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn found(imports: &[(usize, usize)]) -> Vec<Vec<usize>> {
        let imports = imports.iter().map(|import| (*import, 1)).collect();
        cycles(&imports).into_iter().map(|cycle| cycle.into_iter().collect()).collect()
    }

    #[test]
    fn imports_that_only_go_down_make_no_cycle() {
        assert_eq!(found(&[(1, 2), (1, 3), (2, 4), (3, 4)]), [[0; 0]; 0]);
    }

    #[test]
    fn two_that_import_each_other_are_a_cycle_and_so_are_three_in_a_ring() {
        assert_eq!(found(&[(1, 2), (2, 1)]), [[1, 2]]);
        assert_eq!(found(&[(1, 2), (2, 3), (3, 1), (0, 1), (3, 4)]), [[1, 2, 3]]);
    }

    #[test]
    fn rings_that_share_a_file_are_one_cycle_and_rings_that_are_apart_are_two() {
        assert_eq!(found(&[(1, 2), (2, 1), (2, 3), (3, 2)]), [[1, 2, 3]]);
        assert_eq!(found(&[(1, 2), (2, 1), (2, 3), (3, 4), (4, 3)]), [[1, 2], [3, 4]]);
    }
}
