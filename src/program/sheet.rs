//! Tables that fit the terminal.

use comfy_table::{CellAlignment, ContentArrangement, Table, presets::UTF8_FULL_CONDENSED};
use console::measure_text_width;

/// A table whose columns stand side by side as far as they fit. The rest continue in further tables below, each of
/// which repeats the first column.
pub(crate) struct Sheet {
    key: Column,
    groups: Vec<Vec<Column>>,
}

/// A column with its heading.
pub(crate) struct Column {
    heading: &'static str,
    alignment: CellAlignment,
    cells: Vec<String>,
}

impl Column {
    /// Of words, which stand on the left.
    pub(crate) fn words(heading: &'static str, cells: impl IntoIterator<Item = String>) -> Self {
        Self { heading, alignment: CellAlignment::Left, cells: cells.into_iter().collect() }
    }

    /// Of numbers, which stand on the right.
    pub(crate) fn numbers(heading: &'static str, cells: impl IntoIterator<Item = String>) -> Self {
        Self { heading, alignment: CellAlignment::Right, cells: cells.into_iter().collect() }
    }

    /// Its width, including the space and the line beside it.
    fn width(&self) -> usize {
        let cells = self.cells.iter().flat_map(|cell| cell.lines()).chain([self.heading]);
        cells.map(measure_text_width).max().unwrap_or(0) + 3
    }
}

impl Sheet {
    /// A table with only the first column, which says what each row is about.
    pub(crate) fn of(key: Column) -> Self {
        Self { key, groups: Vec::new() }
    }

    /// Adds columns that belong together: they stand in one table if they fit in one.
    #[must_use]
    pub(crate) fn with(mut self, group: impl IntoIterator<Item = Column>) -> Self {
        self.groups.push(group.into_iter().collect());
        self
    }

    /// The tables, one below the other, at most this wide. If not even two columns fit, the text in their cells is
    /// wrapped.
    pub(crate) fn text(&self, columns: Option<usize>) -> String {
        let limit = columns.unwrap_or(usize::MAX);
        let tables: Vec<String> = self.tables(limit).iter().map(|table| render(table, limit)).collect();
        tables.join("\n")
    }

    /// Which columns go into which table.
    fn tables(&self, limit: usize) -> Vec<Vec<&Column>> {
        let width = |columns: &[&Column]| 1 + columns.iter().map(|column| column.width()).sum::<usize>();
        let mut tables = Vec::new();
        let mut table = vec![&self.key];
        for group in &self.groups {
            let whole: Vec<&Column> = group.iter().collect();
            if table.len() > 1 && width(&[&table[..], &whole[..]].concat()) > limit {
                tables.push(std::mem::replace(&mut table, vec![&self.key]));
            }
            for column in whole {
                if table.len() > 1 && width(&table) + column.width() > limit {
                    tables.push(std::mem::replace(&mut table, vec![&self.key]));
                }
                table.push(column);
            }
        }
        tables.push(table);
        tables
    }
}

fn render(columns: &[&Column], limit: usize) -> String {
    let mut table = Table::new();
    table.load_style(UTF8_FULL_CONDENSED);
    if let Ok(limit) = u16::try_from(limit) {
        table.set_content_arrangement(ContentArrangement::Dynamic).set_width(limit);
    }
    table.set_header(columns.iter().map(|column| column.heading));
    let rows = columns.iter().map(|column| column.cells.len()).max().unwrap_or(0);
    for row in 0..rows {
        table.add_row(columns.iter().map(|column| column.cells.get(row).map_or("", String::as_str)));
    }
    for (column, shown) in columns.iter().zip(table.column_iter_mut()) {
        shown.set_cell_alignment(column.alignment);
    }
    table.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sheet() -> Sheet {
        let cells = |text: &str| vec![text.to_owned(), format!("{text}{text}")];
        Sheet::of(Column::numbers("node", cells("1")))
            .with([Column::numbers("alone", cells("90.5 %")), Column::numbers("gain", cells("+17"))])
            .with([Column::words("address", cells("/ip4/127.0.0.1/")), Column::words("over", cells("TCP"))])
    }

    fn headings(text: &str) -> Vec<Vec<&str>> {
        let heads = text.lines().filter(|line| line.contains("node"));
        heads.map(|line| line.split(['│', '┆']).map(str::trim).filter(|word| !word.is_empty()).collect()).collect()
    }

    #[test]
    fn what_does_not_fit_goes_on_below() {
        let all = ["node", "alone", "gain", "address", "over"];
        let sheet = sheet();
        assert_eq!(headings(&sheet.text(None)), [&all[..]]);
        let wide = sheet.text(None).lines().map(measure_text_width).max().unwrap_or(0);
        assert_eq!(headings(&sheet.text(Some(wide))), [&all[..]]);
        let groups = [&["node", "alone", "gain"][..], &["node", "address", "over"]];
        assert_eq!(headings(&sheet.text(Some(wide - 1))), groups);
        let single = [&["node", "alone", "gain"][..], &["node", "address"], &["node", "over"]];
        assert_eq!(headings(&sheet.text(Some(41))), single);
    }

    #[test]
    fn no_line_is_wider_than_it_may_be() {
        for columns in 24..120 {
            let text = sheet().text(Some(columns));
            let widest = text.lines().map(measure_text_width).max().unwrap_or(0);
            assert!(widest <= columns, "{widest} columns, not {columns}:\n{text}");
            assert!(text.contains("gain") && text.contains("over"), "{text}");
        }
    }
}
