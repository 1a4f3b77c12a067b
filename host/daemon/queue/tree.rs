//! Who comes after whom: branches that take turns, deliveries at their ends.

use std::collections::{HashMap, VecDeque};

use super::Of;
use crate::ledger::DeliveryId;

/// A branch, by its number.
pub(super) type Branch = usize;

pub(super) const ROOT: Branch = 0;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Among those of its parent that take turns.
    Ready,
    /// Its limit was reached.
    Aside,
    /// Has nothing that may begin.
    Idle,
}

struct Node {
    parent: Branch,
    /// None of the root.
    of: Option<Of>,
    state: State,
    /// Children in the order of their turns.
    ready: VecDeque<Branch>,
    children: usize,
    /// At the end of a branch; some may have been taken out meanwhile.
    jobs: VecDeque<DeliveryId>,
    /// Those at all the ends below.
    waiting: usize,
}

pub(super) struct Tree {
    /// None where there is room for a new one.
    nodes: Vec<Option<Node>>,
    free: Vec<Branch>,
    children: HashMap<(Branch, Of), Branch>,
    /// How often a branch was looked at.
    #[cfg(test)]
    pub looks: u64,
}

impl Default for Tree {
    fn default() -> Self {
        let root = Node::new(ROOT, None);
        Self {
            nodes: vec![Some(root)],
            free: Vec::new(),
            children: HashMap::new(),
            #[cfg(test)]
            looks: 0,
        }
    }
}

impl Node {
    fn new(parent: Branch, of: Option<Of>) -> Self {
        let (ready, jobs) = (VecDeque::new(), VecDeque::new());
        Self { parent, of, state: State::Idle, ready, children: 0, jobs, waiting: 0 }
    }
}

impl Tree {
    /// Returns the branch at whose end the job is.
    pub fn push(&mut self, id: DeliveryId, path: Vec<Of>) -> Branch {
        let leaf = path.into_iter().fold(ROOT, |branch, of| self.child(branch, of));
        if let Some(node) = self.node(leaf) {
            node.jobs.push_back(id);
        }
        self.up(leaf, |node| node.waiting += 1);
        self.make_ready(leaf);
        leaf
    }

    /// One at the end of this branch has gone.
    pub fn forget(&mut self, leaf: Branch) {
        self.up(leaf, |node| node.waiting -= 1);
        self.tidy(leaf);
    }

    /// The next job at the end of this branch that is still there.
    pub fn next_job(&mut self, branch: Branch, is_there: impl Fn(&DeliveryId) -> bool) -> Option<DeliveryId> {
        let jobs = &mut self.node(branch)?.jobs;
        std::iter::from_fn(|| jobs.pop_front()).find(is_there)
    }

    /// The child whose turn it is, which is then no longer among those that take turns.
    pub fn next_child(&mut self, branch: Branch) -> Option<(Branch, Of)> {
        loop {
            #[cfg(test)]
            {
                self.looks += 1;
            }
            let child = self.node(branch)?.ready.pop_front()?;
            let node = self.node(child)?;
            node.state = State::Idle;
            match &node.of {
                Some(of) if node.waiting > 0 => return Some((child, of.clone())),
                _ => self.tidy(child),
            }
        }
    }

    /// Takes turns again, behind the others, if there may be more below it.
    pub fn had_its_turn(&mut self, branch: Branch) {
        match self.node(branch) {
            Some(node) if !node.jobs.is_empty() || !node.ready.is_empty() => self.make_ready(branch),
            _ => {}
        }
    }

    pub fn set_aside(&mut self, branch: Branch) {
        if let Some(node) = self.node(branch) {
            node.state = State::Aside;
        }
    }

    /// What was set aside takes turns again; false when nothing waits there any more.
    pub fn come_back(&mut self, branch: Branch) -> bool {
        let Some(node) = self.node(branch) else { return false };
        node.state = State::Idle;
        let waits = node.waiting > 0;
        match waits {
            true => self.make_ready(branch),
            false => self.tidy(branch),
        }
        waits
    }

    /// How many of the root's children take turns; some may have nothing that waits.
    pub fn turns(&self) -> usize {
        self.nodes[ROOT].as_ref().map_or(0, |root| root.ready.len())
    }

    /// The root's children that take turns.
    pub fn ready(&self) -> impl Iterator<Item = &Of> {
        let ready = self.nodes[ROOT].iter().flat_map(|root| &root.ready);
        let waits = ready.filter_map(|child| self.nodes[*child].as_ref()).filter(|node| node.waiting > 0);
        waits.filter_map(|node| node.of.as_ref())
    }

    /// How many branches there are.
    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.nodes.len() - self.free.len()
    }

    fn node(&mut self, branch: Branch) -> Option<&mut Node> {
        self.nodes.get_mut(branch)?.as_mut()
    }

    fn child(&mut self, parent: Branch, of: Of) -> Branch {
        if let Some(child) = self.children.get(&(parent, of.clone())) {
            return *child;
        }
        let node = Some(Node::new(parent, Some(of.clone())));
        let child = match self.free.pop() {
            Some(free) => {
                self.nodes[free] = node;
                free
            }
            None => {
                self.nodes.push(node);
                self.nodes.len() - 1
            }
        };
        self.children.insert((parent, of), child);
        if let Some(parent) = self.node(parent) {
            parent.children += 1;
        }
        child
    }

    /// From a branch to the root, both included.
    fn up(&mut self, mut branch: Branch, change: impl Fn(&mut Node)) {
        while let Some(node) = self.node(branch) {
            change(node);
            if branch == ROOT {
                break;
            }
            branch = node.parent;
        }
    }

    /// Lets an idle branch take turns, and those above it, which have something again.
    fn make_ready(&mut self, mut branch: Branch) {
        while branch != ROOT {
            let Some(node) = self.node(branch) else { return };
            let (state, parent) = (node.state, node.parent);
            match state {
                State::Aside => return,
                State::Ready => {}
                State::Idle => {
                    node.state = State::Ready;
                    if let Some(parent) = self.node(parent) {
                        parent.ready.push_back(branch);
                    }
                }
            }
            branch = parent;
        }
    }

    /// Removes a branch at which nothing waits and that nobody names.
    fn tidy(&mut self, mut branch: Branch) {
        while branch != ROOT {
            let gone = |node: &&mut Node| node.state == State::Idle && node.waiting == 0 && node.children == 0;
            let Some(node) = self.node(branch).filter(gone) else { return };
            let (parent, of) = (node.parent, node.of.take());
            if let Some(of) = of {
                self.children.remove(&(parent, of));
            }
            self.nodes[branch] = None;
            self.free.push(branch);
            if let Some(parent) = self.node(parent) {
                parent.children -= 1;
            }
            branch = parent;
        }
    }
}
