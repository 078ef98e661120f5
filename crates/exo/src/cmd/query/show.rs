//! How answers look.

use std::collections::BTreeMap;

use exo_types::SourceStatus;
use serde::Serialize;

use crate::api::dto::query::{QueryDoc, ResultDoc, SourceDoc, status_name};
use crate::escape::{cut, visible};
use crate::exit::Failure;
use crate::output::{Output, Style, table};

/// Prints answers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Printer {
    /// Where to.
    pub(crate) output: Output,
    /// Whether to say where results came from.
    pub(crate) explain: bool,
}

/// An answer with its explanation.
#[derive(Serialize)]
struct Explained<'a> {
    #[serde(flatten)]
    answer: &'a QueryDoc,
    explain: ExplainDoc<'a>,
}

/// Where an answer came from.
#[derive(Debug, PartialEq, Serialize)]
struct ExplainDoc<'a> {
    /// Sources asked.
    asked: usize,
    /// Sources that answered.
    answered: usize,
    /// Results that the sources sent, before merging.
    received: usize,
    /// Copies of the same content that were folded into one result.
    folded: usize,
    /// Results in the answer by source.
    contributed: BTreeMap<&'a str, usize>,
    /// The source that took longest, and its milliseconds.
    slowest: Option<(&'a str, f64)>,
}

impl Printer {
    /// Prints a source's status as soon as it is known.
    pub(crate) fn source(&self, source: &SourceDoc) {
        self.output.note(&source_line(&self.output, source));
    }

    /// Prints the answer to a single query. Statuses of sources have been printed as they came.
    pub(crate) fn answer(&self, answer: &QueryDoc) -> Result<(), Failure> {
        if self.output.json {
            return self.json(answer);
        }
        self.output.note("");
        self.results(answer)
    }

    /// Prints the answer to one row of many.
    pub(crate) fn row(&self, answer: &QueryDoc) -> Result<(), Failure> {
        if self.output.json {
            return self.json(answer);
        }
        let heading = format!("query {}", answer.query);
        self.output.line(&self.output.style(&heading, Style::Strong))?;
        for source in &answer.sources {
            if source.status != SourceStatus::Answered {
                self.source(source);
            }
        }
        self.results(answer)?;
        self.output.line("")
    }

    fn json(&self, answer: &QueryDoc) -> Result<(), Failure> {
        if self.explain {
            self.output.json(&Explained { answer, explain: explain(answer) })
        } else {
            self.output.json(answer)
        }
    }

    fn results(&self, answer: &QueryDoc) -> Result<(), Failure> {
        let output = &self.output;
        if answer.results.is_empty() {
            output.note("No results.");
        }
        for line in result_lines(output, &answer.results) {
            output.line(&line)?;
        }
        let (asked, answered) = (answer.sources.len(), answer.answered());
        if !answer.complete {
            let missing: Vec<_> = answer
                .sources
                .iter()
                .filter(|source| source.status != SourceStatus::Answered)
                .map(|source| source.source.as_str())
                .collect();
            let text = format!("INCOMPLETE: no answer from {}.", missing.join(", "));
            output.note(&output.note_style(&text, Style::Bad));
        }
        let elapsed = answer.elapsed_ms;
        let text = format!("{answered} of {asked} sources answered in {elapsed:.1} ms");
        output.note(&output.note_style(&text, Style::Dim));
        if self.explain {
            self.explained(answer);
        }
        Ok(())
    }

    fn explained(&self, answer: &QueryDoc) {
        let output = &self.output;
        let explain = explain(answer);
        output.note(&format!(
            "{} results received from {} sources, {} copies folded, {} in the answer",
            explain.received,
            explain.answered,
            explain.folded,
            answer.results.len()
        ));
        let mut rows = vec![
            ["SOURCE", "STATUS", "SENT", "IN ANSWER", "TOOK", "NOTE"].map(str::to_owned).to_vec(),
        ];
        rows.extend(answer.sources.iter().map(|source| {
            let inside = explain.contributed.get(source.source.as_str()).copied().unwrap_or(0);
            vec![
                source.source.to_string(),
                status_name(source.status).to_owned(),
                source.count.to_string(),
                inside.to_string(),
                format!("{:.1} ms", source.elapsed_ms),
                visible(&source.detail),
            ]
        }));
        for line in table(&rows) {
            output.note(&line);
        }
    }
}

/// One source's status, for standard error.
pub(crate) fn source_line(output: &Output, source: &SourceDoc) -> String {
    let answered = source.status == SourceStatus::Answered;
    let mark = if answered {
        output.note_style("✓", Style::Good)
    } else {
        output.note_style("✗", Style::Bad)
    };
    let what = if answered {
        format!("{:>4} results", source.count)
    } else {
        status_name(source.status).to_owned()
    };
    let mut line =
        format!("{mark} {:<16} {what:<12} {:>8.1} ms", source.source.as_str(), source.elapsed_ms);
    if !source.detail.is_empty() {
        line.push_str("  ");
        line.push_str(&visible(&source.detail));
    }
    line
}

/// Results, a line each and the beginning of the text below it.
pub(crate) fn result_lines(output: &Output, results: &[ResultDoc]) -> Vec<String> {
    let width = results.iter().map(|result| result.source.as_str().len()).max().unwrap_or(0);
    let mut lines = Vec::with_capacity(2 * results.len());
    for (rank, result) in results.iter().enumerate() {
        let title = if result.title.is_empty() { result.id.as_str() } else { &result.title };
        let mut line = format!(
            "{:>3}. {:>7.4}  {:<width$}  {}",
            rank + 1,
            result.score,
            result.source.as_str(),
            output.style(&cut(&visible(title), TITLE_CHARS), Style::Strong),
        );
        line.push_str(&output.style(&format!("  [{}]", visible(result.id.as_str())), Style::Dim));
        if !result.also.is_empty() {
            let places: Vec<_> = result.also.iter().map(|place| place.source.as_str()).collect();
            line.push_str(&format!("  also at {}", places.join(", ")));
        }
        lines.push(line);
        let text = visible(result.text.trim());
        if !text.is_empty() {
            lines.push(format!("      {}", output.style(&cut(&text, TEXT_CHARS), Style::Dim)));
        }
    }
    lines
}

fn explain(answer: &QueryDoc) -> ExplainDoc<'_> {
    let mut contributed = BTreeMap::new();
    for result in &answer.results {
        *contributed.entry(result.source.as_str()).or_insert(0) += 1;
    }
    let slowest = answer.sources.iter().max_by(|a, b| a.elapsed_ms.total_cmp(&b.elapsed_ms));
    ExplainDoc {
        asked: answer.sources.len(),
        answered: answer.answered(),
        received: answer.sources.iter().map(|source| source.count).sum(),
        folded: answer.results.iter().map(|result| result.also.len()).sum(),
        contributed,
        slowest: slowest.map(|source| (source.source.as_str(), source.elapsed_ms)),
    }
}

/// Characters of a title that are shown.
const TITLE_CHARS: usize = 60;
/// Characters of a text that are shown.
const TEXT_CHARS: usize = 100;

#[cfg(test)]
mod tests {
    use exo_types::{CollectionName, NodeName, PeerId, RecordId};

    use super::*;
    use crate::api::dto::query::PlaceDoc;

    fn result(title: &str, text: &str) -> ResultDoc {
        ResultDoc {
            peer: PeerId::new([1; 32]),
            source: NodeName::new("lab").expect("name"),
            collection: CollectionName::new("c").expect("name"),
            id: RecordId::new("r:1").expect("id"),
            score: 0.5,
            title: title.into(),
            text: text.into(),
            metadata: BTreeMap::new(),
            also: vec![PlaceDoc {
                peer: PeerId::new([2; 32]),
                source: NodeName::new("other").expect("name"),
                collection: CollectionName::new("c").expect("name"),
                id: RecordId::new("r:2").expect("id"),
            }],
        }
    }

    #[test]
    fn text_of_others_cannot_drive_the_terminal() {
        let output = Output::new(false);
        let lines = result_lines(&output, &[result("\x1b[2Jtitle", "a\r\nb\u{202e}c")]);
        let all = lines.join("\n");
        assert!(!all.contains('\x1b') && !all.contains('\r') && !all.contains('\u{202e}'), "{all}");
        assert!(all.contains("\\u{1b}[2Jtitle") && all.contains("also at other"), "{all}");
    }

    #[test]
    fn an_explanation_counts_what_was_sent_and_folded() {
        let source = SourceDoc {
            peer: PeerId::new([1; 32]),
            source: NodeName::new("lab").expect("name"),
            status: SourceStatus::Answered,
            count: 7,
            elapsed_ms: 2.0,
            detail: String::new(),
        };
        let answer = QueryDoc {
            schema: "exo.query/1".into(),
            query: 0,
            results: vec![result("t", "x")],
            sources: vec![source],
            complete: true,
            elapsed_ms: 3.0,
        };
        let explained = explain(&answer);
        assert_eq!((explained.received, explained.folded), (7, 1));
        assert_eq!(explained.contributed["lab"], 1);
        assert_eq!(explained.slowest, Some(("lab", 2.0)));
    }
}
