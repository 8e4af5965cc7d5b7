//! Duplicate groups, each in a frame of its own: what is kept, and each copy with the evidence that linked it in.

use super::frames::scan;
use super::pair_table::{PairRow, PairTable};
use super::text::grouped;
use super::viewer::{Shown, image, opener};
use crate::Result;
use lapidary_pipeline::{Pictures, Thumbnail};
use lapidary_schemas::tables::DUPLICATES_FILE;
use lapidary_schemas::{CopyKind, ImageId};
use maud::{Markup, html};
use serde_json::Value;
use std::collections::HashMap;
use std::path::Path;

/// Groups that are shown.
const GROUPS_SHOWN: usize = 24;
/// Members of a group that are shown, the one that is kept among them.
const MEMBERS_SHOWN: usize = 6;
/// Pictures of all groups together, from where on no more groups are shown.
const PICTURES_MAX: usize = 90;
/// Side of their pictures, which the viewer shows larger.
const PICTURE_PX: u32 = 240;

struct Member {
    id: ImageId,
    path: String,
    kind: String,
    score: f32,
    /// What linked it in.
    neighbour: ImageId,
    is_kept: bool,
}

/// The section's groups.
pub(super) fn groups(folder: &Path, facts: &Value, pairs: &PairTable, pictures: &Pictures) -> Result<Markup> {
    let all = read(folder)?;
    let count = all.len() as u64;
    let mut pictured = 0;
    let fits = |(_, members): &(u32, Vec<Member>)| {
        pictured += members.len().min(MEMBERS_SHOWN);
        pictured <= PICTURES_MAX
    };
    let shown: Vec<(u32, Vec<Member>)> = most_telling(all).into_iter().take(GROUPS_SHOWN).take_while(fits).collect();
    let members = || shown.iter().flat_map(|(_, members)| members.iter().take(MEMBERS_SHOWN));
    // A group may hold images of another source, which has no picture here.
    let ids: Vec<ImageId> = members().map(|member| member.id).filter(|id| pictures.has(*id)).collect();
    let small: HashMap<ImageId, Thumbnail> = ids.iter().copied().zip(pictures.thumbnails(&ids, PICTURE_PX)?).collect();
    let row_of: HashMap<(ImageId, ImageId), usize> =
        pairs.ids()?.into_iter().enumerate().map(|(row, (a, b))| ((a.min(b), a.max(b)), row)).collect();
    let mut cards = Vec::new();
    for (group, members) in &shown {
        let mut figures = Vec::new();
        for member in members.iter().take(MEMBERS_SHOWN).filter(|member| small.contains_key(&member.id)) {
            let key = (member.id.min(member.neighbour), member.id.max(member.neighbour));
            let pair = row_of.get(&key).filter(|_| !member.is_kept && small.contains_key(&member.neighbour));
            let pair = pair.map(|row| pairs.row(*row)).transpose()?;
            figures.push(figure(member, &small[&member.id], pair.as_ref()));
        }
        cards.push(html! {
            article.group {
                header {
                    b { "Group " (group + 1) }
                    span { (members.len()) " images" @if members.len() > figures.len() { ", " (figures.len()) " shown" } }
                }
                div class={ "members" @if figures.len() == 2 { " two" } } { @for figure in &figures { (figure) } }
            }
        });
    }
    Ok(html! {
        p.dim {
            (grouped(count)) " groups, the largest of " (facts["largest_group"]) " images"
            @if count > cards.len() as u64 { "; " (cards.len()) " are shown, those first whose copies are not of the same bytes" }
            ". One image of each stays, framed in green. Open a copy to hold it against the image that it was linked to."
        }
        @if cards.is_empty() { p { "No duplicates." } }
        div.groups { @for card in cards { (card) } }
    })
}

fn figure(member: &Member, small: &Thumbnail, pair: Option<&PairRow>) -> Markup {
    let alt = if member.is_kept { format!("kept: {}", member.path) } else { format!("copy: {}", member.path) };
    let pictures = image(member.id, small, &alt);
    let evidence = pair.map(PairRow::evidence).unwrap_or_default();
    let shown = match pair {
        Some(pair) => {
            let label = |id: ImageId| if id == member.id { "copy" } else { "linked to" };
            Shown {
                a: pair.a,
                b: Some(pair.b),
                labels: (label(pair.a), label(pair.b)),
                title: &member.path,
                facts: &evidence,
                map: pair.map.as_ref(),
            }
        }
        None => Shown { a: member.id, b: None, labels: ("", ""), title: &member.path, facts: "", map: None },
    };
    html! {
        figure class={ "member" @if member.is_kept { " kept" } } {
            (opener("frame", &shown, pictures))
            figcaption title=(member.path) {
                @if member.is_kept { b { "kept" } } @else { b { (member.kind) } " " (format!("{:.2}", member.score)) }
            }
        }
    }
}

/// The groups, the kept image of each in front.
fn read(folder: &Path) -> Result<Vec<(u32, Vec<Member>)>> {
    let frame = scan(&folder.join(DUPLICATES_FILE))?.collect()?;
    let (ids, groups) = (frame.column("image_id")?.u64()?, frame.column("group")?.u32()?);
    let (representatives, neighbours) = (frame.column("representative")?.u64()?, frame.column("neighbour")?.u64()?);
    let (kinds, scores, paths) =
        (frame.column("kind")?.str()?, frame.column("score")?.f32()?, frame.column("path")?.str()?);
    let mut all: Vec<(u32, Vec<Member>)> = Vec::new();
    for row in 0..frame.height() {
        let (Some(id), Some(group)) = (ids.get(row), groups.get(row)) else { continue };
        let member = Member {
            id: ImageId(id),
            path: paths.get(row).unwrap_or_default().to_owned(),
            kind: kinds.get(row).unwrap_or_default().to_owned(),
            score: scores.get(row).unwrap_or(0.0),
            neighbour: ImageId(neighbours.get(row).unwrap_or(0)),
            is_kept: representatives.get(row) == Some(id),
        };
        match all.last_mut() {
            Some((last, members)) if *last == group => members.push(member),
            _ => all.push((group, vec![member])),
        }
    }
    all.iter_mut().for_each(|(_, members)| members.sort_by_key(|member| !member.is_kept));
    Ok(all)
}

/// The groups that took most evidence to find in front.
fn most_telling(mut all: Vec<(u32, Vec<Member>)>) -> Vec<(u32, Vec<Member>)> {
    let exact = |members: &[Member]| members.iter().filter(|m| !m.is_kept && m.kind == CopyKind::Exact.code()).count();
    let least = |members: &[Member]| members.iter().map(|m| (m.score * 1e4) as u32).min().unwrap_or(0);
    all.sort_by_key(|(group, members)| (exact(members), least(members), std::cmp::Reverse(members.len()), *group));
    all
}
