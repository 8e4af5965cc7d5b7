//! Lists of labels: a share of each class, or so many a class, chosen by seed and written out, so that a score says exactly which
//! labels it was learned from. Lists nest: 1 % lies in 10 %, one a class in five.

use crate::Result;
use lapidary_pipeline::PipelineError;
use lapidary_train::probe::{Labelled, Probe, per_class, stratified};
use std::path::Path;

/// The folder of lists in an evaluation.
pub(crate) const LABELS: &str = "labels";

/// A list of labels.
#[derive(Debug, Clone)]
pub(crate) struct LabelList {
    /// As people read it: `10 %`, `5 a class`.
    pub(crate) name: String,
    /// The list's file under [`LABELS`].
    pub(crate) file: String,
    /// Indices into the probe's train images, ascending.
    pub(crate) indices: Vec<usize>,
    /// What a reader must know: classes that have fewer labels than requested.
    pub(crate) notes: Vec<String>,
}

impl LabelList {
    /// A share of each class, at least one of each.
    pub(crate) fn share(probe: &Probe, share: f64, seed: u64) -> Self {
        let percent = format!("{}", (share * 1e6).round() / 1e4);
        let list = stratified(&probe.train, share, 0, seed);
        Self {
            name: format!("{percent} %"),
            file: format!("{percent}-percent.csv"),
            indices: indices(probe, &list),
            notes: Vec::new(),
        }
    }

    /// So many labels of each class.
    pub(crate) fn per_class(probe: &Probe, count: usize, seed: u64) -> Self {
        let list = per_class(&probe.train, count, seed);
        let mut of_class = vec![0usize; probe.classes.len()];
        list.iter().for_each(|labelled| of_class[labelled.class as usize] += 1);
        let few: Vec<String> = of_class
            .iter()
            .zip(&probe.classes)
            .filter(|(has, _)| **has < count)
            .map(|(has, class)| format!("{class} {has}"))
            .collect();
        let notes = if few.is_empty() {
            Vec::new()
        } else {
            let shown = few.iter().take(10).cloned().collect::<Vec<_>>().join(", ");
            let more = if few.len() > 10 { format!(" and {} more", few.len() - 10) } else { String::new() };
            let classes = if few.len() == 1 { "class has" } else { "classes have" };
            vec![format!("{} {classes} fewer than {count} labels: {shown}{more}", few.len())]
        };
        let name = format!("{count} a class");
        Self { file: format!("{}.csv", name.replace(' ', "-")), name, indices: indices(probe, &list), notes }
    }

    /// Writes it as CSV with a header: image id, label, class.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub(crate) fn write(&self, probe: &Probe, folder: &Path) -> Result<()> {
        std::fs::create_dir_all(folder).map_err(PipelineError::io("create folder", folder))?;
        let path = folder.join(&self.file);
        let failed = |error: csv::Error| PipelineError::format(&path, error);
        let mut writer = csv::Writer::from_path(&path).map_err(failed)?;
        writer.write_record(["image_id", "label", "class"]).map_err(failed)?;
        for Labelled { id, class } in self.indices.iter().map(|index| probe.train[*index]) {
            let name = probe.classes.get(class as usize).map_or("", String::as_str);
            writer.write_record([id.to_string().as_str(), &class.to_string(), name]).map_err(failed)?;
        }
        let file = writer.into_inner().map_err(|error| PipelineError::format(&path, error))?;
        file.sync_all().map_err(PipelineError::io("sync", &path))?;
        Ok(())
    }
}

fn indices(probe: &Probe, list: &[Labelled]) -> Vec<usize> {
    list.iter().map(|labelled| probe.train.binary_search(labelled).expect("lists are of the probe's images")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use lapidary_schemas::{Digest, ImageId};

    /// Classes of 40, 20 and 3 images; one name needs quotes.
    fn probe() -> Probe {
        let classes = [(0, 40u64), (1, 20), (2, 3)];
        let all = classes.iter().flat_map(|(class, count)| (0..*count).map(move |i| (*class, i)));
        let mut train: Vec<Labelled> =
            all.map(|(class, i)| Labelled { id: ImageId((u64::from(class) * 100 + i) * 7919), class }).collect();
        train.sort_unstable();
        let classes = ["ant", "bee, wild", "cat"].map(str::to_owned).to_vec();
        let digest = Digest("d".to_owned());
        Probe { name: "p".to_owned(), folder: "p".into(), digest, classes, train, test: vec![], unlabelled: 0 }
    }

    #[test]
    fn lists_nest_repeat_and_say_what_is_missing() {
        let probe = probe();
        let (tenth, all) = (LabelList::share(&probe, 0.1, 3), LabelList::share(&probe, 1.0, 3));
        assert_eq!((tenth.indices.len(), all.indices.len()), (4 + 2 + 1, 63), "one of each class at least");
        assert_eq!(
            (tenth.name.as_str(), LabelList::share(&probe, 0.015, 3).file.as_str()),
            ("10 %", "1.5-percent.csv")
        );
        let (one, five) = (LabelList::per_class(&probe, 1, 3), LabelList::per_class(&probe, 5, 3));
        assert_eq!((one.indices.len(), five.indices.len()), (3, 13));
        assert!(one.indices.iter().all(|index| five.indices.contains(index)));
        assert_eq!(five.notes, ["1 class has fewer than 5 labels: cat 3"]);
        assert!(one.notes.is_empty());
        assert_eq!(five.indices, LabelList::per_class(&probe, 5, 3).indices);
        assert_ne!(five.indices, LabelList::per_class(&probe, 5, 4).indices);
    }

    #[test]
    fn a_list_is_written_with_ids_labels_and_names() {
        let (probe, folder) = (probe(), tempfile::tempdir().expect("a folder"));
        let list = LabelList::per_class(&probe, 2, 3);
        list.write(&probe, folder.path()).expect("writes");
        let text = std::fs::read_to_string(folder.path().join("2-a-class.csv")).expect("reads");
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!((lines.len(), lines[0]), (7, "image_id,label,class"));
        let wild = lines.iter().filter(|line| line.ends_with(",1,\"bee, wild\"")).count();
        assert_eq!(wild, 2, "{text}");
        let first = &probe.train[list.indices[0]];
        assert!(lines[1].starts_with(&format!("{},{},", first.id, first.class)), "{text}");
    }
}
