//! Disjoint sets.

/// Disjoint sets; the root of a set is its smallest element, so that roots depend on no order.
pub(crate) struct UnionFind {
    parents: Vec<usize>,
}

impl UnionFind {
    pub(crate) fn new(count: usize) -> Self {
        Self { parents: (0..count).collect() }
    }

    pub(crate) fn root(&mut self, mut element: usize) -> usize {
        while self.parents[element] != element {
            self.parents[element] = self.parents[self.parents[element]];
            element = self.parents[element];
        }
        element
    }

    pub(crate) fn join(&mut self, a: usize, b: usize) {
        let (a, b) = (self.root(a), self.root(b));
        self.parents[a.max(b)] = a.min(b);
    }
}
