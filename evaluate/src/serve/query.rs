//! Which images a request asks for: filters, a lasso, an order, a page.

use super::answer::Answer;
use super::catalog::{Catalog, NONE, Row};
use super::map::Map;
use super::request::Asked;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Images of a page at most.
const PAGE_MAX: usize = 500;
/// Corners of a lasso at most.
const CORNERS_MAX: usize = 1000;

/// A polygon on a map.
pub(super) struct Lasso {
    map: Arc<Map>,
    corners: Vec<(f32, f32)>,
    /// The least and the greatest corner: most points lie outside of what these span.
    low: (f32, f32),
    high: (f32, f32),
}

/// What is asked for.
pub(super) struct Query<'a> {
    subset: Option<&'a [bool]>,
    reason: Option<u32>,
    cluster: Option<u32>,
    class: Option<u32>,
    score: (Option<f32>, Option<f32>),
    lasso: Option<Lasso>,
    by_score: bool,
    offset: usize,
    limit: usize,
}

impl<'a> Query<'a> {
    /// Reads a request's parameters.
    ///
    /// # Errors
    /// With the answer to give, when one names nothing that is there or is no number.
    pub(super) fn read(catalog: &'a Catalog, asked: &Asked) -> Result<Self, Box<Answer>> {
        let none = |what: &str| Box::new(Answer::error(400, &format!("there is no such {what}")));
        let index = |names: &[String], name: &str, what: &str| {
            names.iter().position(|known| known == name).map(|index| index as u32).ok_or_else(|| none(what))
        };
        let subset =
            asked.get("subset").map(|name| catalog.subsets.get(name).ok_or_else(|| none("subset"))).transpose()?;
        let order = asked.get("order").unwrap_or("rank");
        if !["rank", "score"].contains(&order) {
            return Err(none("order"));
        }
        Ok(Self {
            subset: subset.map(Vec::as_slice),
            reason: asked.get("reason").map(|name| index(&catalog.reasons, name, "reason")).transpose()?,
            cluster: asked.number("cluster")?,
            class: asked.get("class").map(|name| index(&catalog.classes, name, "class")).transpose()?,
            score: (asked.number("score_min")?, asked.number("score_max")?),
            lasso: lasso(catalog, asked)?,
            by_score: order == "score",
            offset: asked.number("offset")?.unwrap_or(0),
            limit: asked.number("limit")?.unwrap_or(100).min(PAGE_MAX),
        })
    }

    /// Whether an image passes what is no facet.
    fn passes(&self, index: usize, row: &Row) -> bool {
        let (low, high) = self.score;
        // An image without a score has none to be within a range.
        let scored = low.is_none_or(|low| row.score >= low) && high.is_none_or(|high| row.score <= high);
        self.subset.is_none_or(|holds| holds[index])
            && scored
            && self.lasso.as_ref().is_none_or(|lasso| lasso.holds(index))
    }

    /// Whether an image passes the filter of each facet: reason, cluster, class.
    fn facets(&self, row: &Row) -> [bool; 3] {
        let is = |wanted: Option<u32>, value: u32| wanted.is_none_or(|wanted| wanted == value);
        [is(self.reason, row.reason), is(self.cluster, row.cluster), is(self.class, row.class)]
    }

    /// The page that is asked for and how many images pass in all; of the first page also how many there are of each reason, cluster
    /// and class among those that pass the other filters.
    pub(super) fn answer(&self, catalog: &Catalog) -> Value {
        let mut passing: Vec<usize> = Vec::new();
        let mut counts: [BTreeMap<u32, u64>; 3] = Default::default();
        for (index, row) in catalog.rows.iter().enumerate().filter(|(index, row)| self.passes(*index, row)) {
            let facets = self.facets(row);
            for (facet, value) in [row.reason, row.cluster, row.class].into_iter().enumerate() {
                let others = (0..facets.len()).all(|other| other == facet || facets[other]);
                if others && value != NONE {
                    *counts[facet].entry(value).or_default() += 1;
                }
            }
            if facets == [true; 3] {
                passing.push(index);
            }
        }
        let total = passing.len();
        if self.by_score {
            // Those without a score last.
            let key = |index: &usize| {
                Some(catalog.rows[*index].score).filter(|score| score.is_finite()).unwrap_or(f32::NEG_INFINITY)
            };
            let order = |a: &usize, b: &usize| key(b).total_cmp(&key(a)).then(a.cmp(b));
            // Of all that pass only the page and what stands before it is put in order.
            let end = self.offset.saturating_add(self.limit);
            if end < total {
                passing.select_nth_unstable_by(end, order);
                passing.truncate(end);
            }
            passing.sort_unstable_by(order);
        }
        if self.offset > 0 {
            counts = Default::default();
        }
        let shown = passing.iter().skip(self.offset).take(self.limit);
        let page: Vec<Value> = shown.map(|index| row_facts(catalog, &catalog.rows[*index])).collect();
        let named = |counts: &BTreeMap<u32, u64>, names: &[String]| -> Value {
            counts
                .iter()
                .map(|(value, count)| json!([names.get(*value as usize).map_or("?", String::as_str), count]))
                .collect()
        };
        json!({
            "total": total,
            "offset": self.offset,
            "rows": page,
            "reasons": named(&counts[0], &catalog.reasons),
            "clusters": counts[1].iter().map(|(cluster, count)| json!([cluster, count])).collect::<Vec<_>>(),
            "classes": named(&counts[2], &catalog.classes),
        })
    }
}

/// What is said of an image.
pub(super) fn row_facts(catalog: &Catalog, row: &Row) -> Value {
    let some = |value: u32| (value != NONE).then_some(value);
    let class = some(row.class).and_then(|class| catalog.classes.get(class as usize));
    json!({
        "id": row.id.to_string(),
        "reason": catalog.reasons[row.reason as usize],
        "cluster": some(row.cluster),
        "class": class,
        "rank": some(row.rank),
        "score": row.score.is_finite().then_some(row.score),
        "duplicate_of": (row.duplicate_of != 0).then(|| lapidary_schemas::ImageId(row.duplicate_of).to_string()),
    })
}

fn lasso(catalog: &Catalog, asked: &Asked) -> Result<Option<Lasso>, Box<Answer>> {
    let Some(text) = asked.get("lasso") else { return Ok(None) };
    let bad = || Box::new(Answer::error(400, "a lasso is `x,y;x,y;...` with three corners or more"));
    let corner = |pair: &str| {
        let (x, y) = pair.split_once(',').ok_or_else(bad)?;
        let number = |text: &str| text.parse::<f32>().ok().filter(|value| value.is_finite()).ok_or_else(bad);
        Ok((number(x)?, number(y)?))
    };
    let corners = text.split(';').take(CORNERS_MAX + 1).map(corner).collect::<Result<Vec<_>, Box<Answer>>>()?;
    if corners.len() < 3 || corners.len() > CORNERS_MAX {
        return Err(bad());
    }
    let name = asked.get("map").ok_or_else(|| Box::new(Answer::error(400, "a lasso is on a map: name it")))?;
    let map = catalog.map(name).map_err(|error| Box::new(Answer::error(404, &error.to_string())))?;
    Ok(Some(Lasso::new(map, corners)))
}

impl Lasso {
    fn new(map: Arc<Map>, corners: Vec<(f32, f32)>) -> Self {
        let fold = |start: f32, pick: fn(f32, f32) -> f32| {
            corners.iter().fold((start, start), |end, corner| (pick(end.0, corner.0), pick(end.1, corner.1)))
        };
        let (low, high) = (fold(f32::INFINITY, f32::min), fold(f32::NEG_INFINITY, f32::max));
        Self { map, corners, low, high }
    }

    /// Whether an image lies within, by how often a ray from it crosses the polygon.
    fn holds(&self, row: usize) -> bool {
        let Some((x, y)) = self.map.point(row) else { return false };
        if x < self.low.0 || y < self.low.1 || x > self.high.0 || y > self.high.1 {
            return false;
        }
        let mut within = false;
        let mut last = self.corners[self.corners.len() - 1];
        for corner in &self.corners {
            let ((x0, y0), (x1, y1)) = (last, *corner);
            if (y0 > y) != (y1 > y) && x < (x1 - x0) * (y - y0) / (y1 - y0) + x0 {
                within = !within;
            }
            last = *corner;
        }
        within
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lasso_holds_what_is_inside_even_where_it_is_hollow() {
        let points = [(0.1, 0.1), (0.5, 0.5), (0.9, 0.1), (0.5, 0.95), (0.5, 0.2)];
        let map = Arc::new(Map::of_points(points.iter().map(|point| Some(*point)).chain([None]).collect()));
        // A horseshoe, open at the top.
        let corners =
            vec![(0.0, 0.0), (1.0, 0.0), (1.0, 1.0), (0.8, 1.0), (0.8, 0.3), (0.2, 0.3), (0.2, 1.0), (0.0, 1.0)];
        let lasso = Lasso::new(map, corners);
        let held: Vec<bool> = (0..6).map(|row| lasso.holds(row)).collect();
        assert_eq!(held, [true, false, true, false, true, false]);
    }
}
