use std::collections::BTreeMap;

use super::{
    Leaf,
    page::{Child, Page},
    way,
};
use crate::Hash;

/// A place and the new hash of its value; none where the value goes.
pub(crate) type Change = (Hash, Option<Hash>);

/// Deepest page: two places differ somewhere in their 64 halves of bytes.
const DEPTH_MAX: usize = 64;

/// Applies `changes`, one for each place, to the tree whose pages `read` gives, and returns the new
/// root with the pages that changed.
pub(crate) fn update(
    read: &impl Fn(&[u8]) -> Option<Vec<u8>>,
    mut changes: Vec<Change>,
) -> (Hash, BTreeMap<Vec<u8>, Option<Vec<u8>>>) {
    changes.sort_unstable_by_key(|(place, _)| *place);
    let mut run = Run { read, pages: BTreeMap::new() };
    let mut root = run.load(&[]);
    run.descend(&mut root, &mut Vec::new(), &changes);
    // The root has no page above that could hold what is left of it, so it always has its own.
    run.pages.insert(Vec::new(), Some(root.to_bytes()));
    (root.hash(), run.pages)
}

struct Run<'a, R> {
    read: &'a R,
    pages: BTreeMap<Vec<u8>, Option<Vec<u8>>>,
}

impl<R: Fn(&[u8]) -> Option<Vec<u8>>> Run<'_, R> {
    fn load(&self, path: &[u8]) -> Page {
        let bytes = (self.read)(path);
        bytes.map_or_else(Page::default, |bytes| {
            Page::from_bytes(&bytes).expect("the store returns the pages it was given")
        })
    }

    /// Applies the changes that lie under `page`, which is at `path`.
    fn descend(&mut self, page: &mut Page, path: &mut Vec<u8>, changes: &[Change]) {
        let depth = path.len();
        assert!(depth < DEPTH_MAX, "two places of one key");
        for changes in changes.chunk_by(|a, b| way(&a.0, depth) == way(&b.0, depth)) {
            let way = way(&changes[0].0, depth);
            path.push(u8::try_from(way).expect("one of sixteen"));
            page.0[way] = self.child(page.0[way], path, changes);
            path.pop();
        }
    }

    /// What `child`, whose page is or would be at `path`, becomes.
    fn child(&mut self, child: Child, path: &mut Vec<u8>, changes: &[Change]) -> Child {
        if let Child::Page(_) = child {
            let mut page = self.load(path);
            self.descend(&mut page, path, changes);
            return self.keep(page, path);
        }
        let mut leaves: Vec<Leaf> = changes
            .iter()
            .filter_map(|(place, value)| value.map(|value| Leaf { place: *place, value }))
            .collect();
        if let Child::Leaf(old) = child
            && !changes.iter().any(|(place, _)| *place == old.place)
        {
            let at = leaves.partition_point(|leaf| leaf.place < old.place);
            leaves.insert(at, old);
        }
        self.build(&leaves, path)
    }

    /// A new part of the tree from its leaves, in order.
    fn build(&mut self, leaves: &[Leaf], path: &mut Vec<u8>) -> Child {
        match leaves {
            [] => return Child::Nothing,
            [leaf] => return Child::Leaf(*leaf),
            _ => {}
        }
        let depth = path.len();
        assert!(depth < DEPTH_MAX, "two places of one key");
        let mut page = Page::default();
        for leaves in leaves.chunk_by(|a, b| way(&a.place, depth) == way(&b.place, depth)) {
            let way = way(&leaves[0].place, depth);
            path.push(u8::try_from(way).expect("one of sixteen"));
            page.0[way] = self.build(leaves, path);
            path.pop();
        }
        self.keep(page, path)
    }

    /// Writes a page, unless so little is on it that the page above can hold it.
    fn keep(&mut self, page: Page, path: &[u8]) -> Child {
        let child = page.as_child();
        let bytes = matches!(child, Child::Page(_)).then(|| page.to_bytes());
        self.pages.insert(path.to_vec(), bytes);
        child
    }
}
