//! The tree of `teff trace`: what the operations of a plan read and compute, and how long they took.

use teff::Model;
use teff::graph::ops::Op;
use teff::graph::plan::{Plan, RowCount};
use teff::graph::{Role, TensorId};
use teff::runtime::model::TensorInfo;
use teff::runtime::trace::{Activity, Span};

use super::roofline::Limits;

/// Part of the model that an operation belongs to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Part {
    Embedding,
    Layer(u32),
    Head,
}

impl Part {
    /// Part that has the tensor; an embedding is the head's too, where a product reads it.
    fn of(role: Role, product: bool) -> Part {
        match role {
            Role::Layer(l, _) => Part::Layer(l),
            Role::TokenEmbd if product => Part::Head,
            Role::Output | Role::OutputNorm | Role::OutputNormBias | Role::StreamUnembd => {
                Part::Head
            }
            _ => Part::Embedding,
        }
    }

    pub(super) fn name(self) -> String {
        match self {
            Part::Embedding => "embedding".into(),
            Part::Layer(l) => format!("layer {l}"),
            Part::Head => "head".into(),
        }
    }
}

/// Weights that an operation reads, and what it computes with them.
#[derive(Clone, Copy, Default, PartialEq, Debug)]
pub(super) struct Work {
    pub(super) bytes: f64,
    /// True if it reads so many bytes at most: a prompt's tokens may choose the same experts.
    pub(super) at_most: bool,
    /// Operations on bytes, and on f32; a multiply-add is two.
    pub(super) int8: f64,
    pub(super) dense: f64,
}

impl Work {
    fn add(&mut self, other: &Work) {
        self.bytes += other.bytes;
        self.at_most |= other.at_most;
        self.int8 += other.int8;
        self.dense += other.dense;
    }

    pub(super) fn operations(&self) -> f64 {
        self.int8 + self.dense
    }

    /// Seconds that it takes at the limits; `None` if there is nothing that they limit.
    fn least(&self, limits: &Limits) -> Option<f64> {
        let ratio = |work: f64, limit: Option<f64>| match limit {
            Some(limit) if limit > 0.0 => work / limit,
            _ => 0.0,
        };
        let compute = ratio(self.int8, limits.int8) + ratio(self.dense, limits.fma);
        let least = ratio(self.bytes, Some(limits.bandwidth)).max(compute);
        (least > 0.0).then_some(least)
    }
}

/// One tensor that an operation reads.
struct Read {
    /// Bytes that one step reads, whatever its tokens.
    whole: f64,
    /// Bytes that each token reads.
    each: f64,
    /// Most of what tokens read together.
    most: f64,
    /// True if tokens may read the same bytes.
    shared: bool,
    /// Operations of each token.
    operations: f64,
    quantized: bool,
}

impl Read {
    fn new(model: &Model, t: &TensorInfo, product: bool) -> Read {
        let bytes = t.bytes as f64;
        let mut read = Read {
            whole: bytes,
            each: 0.0,
            most: f64::INFINITY,
            shared: false,
            operations: 0.0,
            quantized: t.format.is_quantized(),
        };
        let mut matrices = t.experts;
        match t.role {
            Role::Layer(l, _) if t.experts > 1 => {
                let experts = model.spec().layers.get(l).experts();
                matrices = experts.map_or(t.experts, |e| e.used as usize);
                let each = bytes / t.experts as f64 * matrices as f64;
                (read.whole, read.each, read.most, read.shared) = (0.0, each, bytes, true);
            }
            Role::TokenEmbd | Role::PositionEmbd | Role::PerLayerEmbd if !product => {
                (read.whole, read.each) = (0.0, bytes / t.rows.max(1) as f64);
            }
            _ => {}
        }
        if product {
            read.operations = 2.0 * matrices as f64 * t.rows as f64 * t.cols as f64;
        }
        read
    }

    fn add(&self, tokens: usize, work: &mut Work) {
        let n = tokens as f64;
        work.bytes += self.whole + (self.each * n).min(self.most);
        work.at_most |= self.shared && tokens > 1;
        let kind = if self.quantized { &mut work.int8 } else { &mut work.dense };
        *kind += self.operations * n;
    }
}

/// An operation of a plan.
pub(super) struct Operation {
    /// Its kind, and the names of its weights.
    pub(super) name: String,
    pub(super) part: Part,
    rows: RowCount,
    reads: Vec<Read>,
}

impl Operation {
    /// Work in steps of so many tokens, of which the second number is wanted.
    fn work(&self, steps: &[(usize, usize)]) -> Work {
        let mut work = Work::default();
        for &(tokens, wanted) in steps {
            let n = match self.rows {
                RowCount::Wanted => wanted,
                _ => tokens,
            };
            if n > 0 {
                self.reads.iter().for_each(|read| read.add(n, &mut work));
            }
        }
        work
    }
}

/// The operations of a plan, barriers among them so that indices are the plan's.
pub(super) fn operations(model: &Model, plan: &Plan<'_>) -> Vec<Operation> {
    let infos: Vec<_> = model.tensor_infos().collect();
    let mut part = Part::Embedding;
    let mut selected = RowCount::Batch;
    let mut operation = |op: &Op| {
        let mut products: Vec<TensorId> = Vec::new();
        let mut rows = None;
        op.products(&mut |w, x| {
            rows = Some(plan.buffer(x).rows);
            if !products.contains(&w) {
                products.push(w);
            }
        });
        let mut others = Vec::new();
        op.tensors(&mut |id| {
            if !products.contains(&id) && !others.contains(&id) {
                others.push(id);
            }
        });
        let products = products.iter().map(|id| (&infos[id.index()], true));
        let others = others.iter().map(|id| (&infos[id.index()], false));
        let tensors: Vec<_> = products.chain(others).collect();
        if let Some((t, product)) = tensors.first() {
            part = Part::of(t.role, *product);
        }
        // Everything after the first selection is about the tokens whose outputs are wanted.
        if op.name() == "SelectRows" {
            selected = RowCount::Wanted;
        }
        let mut name = String::from(op.name());
        for (i, weight) in named(&tensors).into_iter().enumerate() {
            name.push_str(if i == 0 { " " } else { ", " });
            name.push_str(weight);
        }
        let reads = tensors.iter().map(|(t, product)| Read::new(model, t, *product)).collect();
        Operation { name, part, rows: rows.unwrap_or(selected), reads }
    };
    plan.ops.iter().map(&mut operation).collect()
}

/// Names by which an operation is known: those of its products' weights, or of what else it reads.
fn named(tensors: &[(&TensorInfo, bool)]) -> Vec<&'static str> {
    let name = |t: &TensorInfo| {
        let name = t.role.gguf_name();
        name.strip_suffix(".weight").unwrap_or(name)
    };
    let any = tensors.iter().any(|(_, product)| *product);
    let all = tensors.iter().filter(|(_, product)| *product == any).map(|(t, _)| name(t));
    let (biases, others): (Vec<_>, Vec<_>) = all.partition(|name| name.ends_with(".bias"));
    if others.is_empty() { biases } else { others }
}

/// Record of a prefill or of a decode.
pub(super) struct Stage {
    pub(super) name: &'static str,
    pub(super) threads: usize,
    /// Tokens of each step, and those of which logits were wanted.
    pub(super) steps: Vec<(usize, usize)>,
    /// Begin and end of each call, in nanoseconds.
    pub(super) calls: Vec<(u64, u64)>,
    /// Nanoseconds of all threads for each operation of the plan; `None` of those that had nothing to
    /// do, and of barriers.
    times: Vec<Option<u64>>,
    /// Nanoseconds of all threads at barriers.
    waiting: u64,
    /// The spans, if they are kept.
    pub(super) spans: Option<Vec<Span>>,
}

impl Stage {
    pub(super) fn new(name: &'static str, threads: usize, operations: usize, keep: bool) -> Stage {
        let (times, spans) = (vec![None; operations], keep.then(Vec::new));
        Stage { name, threads, steps: Vec::new(), calls: Vec::new(), times, waiting: 0, spans }
    }

    /// Adds what was recorded during a call.
    pub(super) fn add(&mut self, call: (u64, u64), spans: &[Span]) {
        self.calls.push(call);
        for span in spans {
            let time = span.end.saturating_sub(span.begin);
            match span.activity {
                Activity::Operation(op) => {
                    if let Some(sum) = self.times.get_mut(op as usize) {
                        *sum = Some(sum.unwrap_or(0) + time);
                    }
                }
                Activity::Waiting(_) => self.waiting += time,
                _ => {}
            }
        }
        if let Some(all) = &mut self.spans {
            all.extend_from_slice(spans);
        }
    }

    pub(super) fn tokens(&self) -> usize {
        self.steps.iter().map(|(tokens, _)| tokens).sum()
    }

    /// Seconds of the calls.
    pub(super) fn seconds(&self) -> f64 {
        self.calls.iter().map(|(begin, end)| end - begin).sum::<u64>() as f64 / 1e9
    }

    /// Seconds of the stage in which so many nanoseconds of its threads pass.
    fn share(&self, nanoseconds: u64) -> f64 {
        nanoseconds as f64 / 1e9 / self.threads as f64
    }

    /// The tree of its times: parts of the model, of which all layers are one unless `each` is true, and
    /// their operations.
    pub(super) fn tree(&self, operations: &[Operation], each: bool) -> Node {
        let mut layers: Vec<u32> = Vec::new();
        let mut parts: Vec<(Part, Node)> = Vec::new();
        for (i, op) in operations.iter().enumerate() {
            let Some(time) = self.times[i] else { continue };
            let key = match op.part {
                Part::Layer(l) => {
                    if !layers.contains(&l) {
                        layers.push(l);
                    }
                    Part::Layer(if each { l } else { 0 })
                }
                part => part,
            };
            let (seconds, work) = (self.share(time), op.work(&self.steps));
            let at = parts.iter().position(|(part, _)| *part == key).unwrap_or_else(|| {
                parts.push((key, Node::new(key.name())));
                parts.len() - 1
            });
            let part = &mut parts[at].1;
            part.count(seconds, &work);
            part.child(&op.name).count(seconds, &work);
        }
        let mut total = Node::new(String::from("total"));
        let mut rest = self.seconds();
        for (key, mut part) in parts {
            if matches!(key, Part::Layer(_)) && !each {
                part.name = match layers.len() {
                    1 => "1 layer".into(),
                    n => format!("{n} layers"),
                };
            }
            total.work.add(&part.work);
            rest -= part.seconds;
            total.children.push(part);
        }
        let waiting = self.share(self.waiting);
        let rest = (rest - waiting).max(0.0);
        for (name, seconds) in [("waiting at barriers", waiting), ("outside of operations", rest)] {
            total.children.push(Node { seconds, ..Node::new(name.into()) });
        }
        total.seconds = self.seconds();
        total
    }
}

/// A line of the tree.
pub(super) struct Node {
    pub(super) name: String,
    pub(super) seconds: f64,
    pub(super) work: Work,
    pub(super) children: Vec<Node>,
}

impl Node {
    fn new(name: String) -> Node {
        Node { name, seconds: 0.0, work: Work::default(), children: Vec::new() }
    }

    fn count(&mut self, seconds: f64, work: &Work) {
        self.seconds += seconds;
        self.work.add(work);
    }

    /// The child of this name, which is made if there is none.
    fn child(&mut self, name: &str) -> &mut Node {
        let at = self.children.iter().position(|c| c.name == name).unwrap_or_else(|| {
            self.children.push(Node::new(name.into()));
            self.children.len() - 1
        });
        &mut self.children[at]
    }

    /// Rate of something in this time; `None` for nothing.
    fn rate(&self, n: f64) -> Option<f64> {
        (n > 0.0 && self.seconds > 0.0).then(|| n / self.seconds)
    }

    /// Bytes of weights per second.
    pub(super) fn bytes_per_second(&self) -> Option<f64> {
        self.rate(self.work.bytes)
    }

    /// Operations per second.
    pub(super) fn operations_per_second(&self) -> Option<f64> {
        self.rate(self.work.operations())
    }

    /// The least time that the limits allow, as a share of this one.
    pub(super) fn roofline(&self, limits: &Limits) -> Option<f64> {
        self.rate(self.work.least(limits)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_of_a_step() {
        let read = |whole, each, most, shared| Read {
            whole,
            each,
            most,
            shared,
            operations: 20.0,
            quantized: true,
        };
        let matrix = || vec![read(100.0, 0.0, f64::INFINITY, false)];
        let op = |rows, reads| Operation { name: String::new(), part: Part::Head, rows, reads };
        // A matrix is read once in every step in which it is used.
        let steps = [(8, 0), (3, 1)];
        let work = op(RowCount::Batch, matrix()).work(&steps);
        assert_eq!((work.bytes, work.int8, work.dense, work.at_most), (200.0, 220.0, 0.0, false));
        let work = op(RowCount::Wanted, matrix()).work(&steps);
        assert_eq!((work.bytes, work.int8), (100.0, 20.0));
        // Two of eight experts, and so of all at most.
        let experts = || vec![read(0.0, 20.0, 80.0, true)];
        let work = op(RowCount::Batch, experts()).work(&steps);
        assert_eq!((work.bytes, work.at_most), (140.0, true));
        let work = op(RowCount::Batch, experts()).work(&[(1, 1), (1, 1)]);
        assert_eq!((work.bytes, work.at_most), (40.0, false));
    }

    #[test]
    fn the_larger_of_both_limits() {
        let limits = Limits { bandwidth: 10.0, int8: Some(100.0), fma: None, cache: None };
        let work = |bytes, int8, dense| Work { bytes, at_most: false, int8, dense };
        assert_eq!(work(20.0, 100.0, 0.0).least(&limits), Some(2.0));
        assert_eq!(work(20.0, 300.0, 5.0).least(&limits), Some(3.0));
        assert_eq!(work(0.0, 0.0, 5.0).least(&limits), None);
    }
}
