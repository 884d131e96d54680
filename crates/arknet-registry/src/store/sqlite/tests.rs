use super::*;

/// How SQLite would answer a question, step by step.
fn plan(sql: &str) -> Vec<String> {
    let directory = tempfile::tempdir().unwrap();
    let store = Sqlite::open(&directory.path().join("r.db")).unwrap();
    let connection = store.writer.lock().unwrap();
    let mut explained = connection.prepare(&format!("EXPLAIN QUERY PLAN {sql}")).unwrap();
    let steps = explained.raw_query().mapped(|row| row.get("detail")).collect::<Result<_, _>>();
    steps.unwrap()
}

#[test]
fn a_list_is_read_along_an_index_and_never_sorted() {
    let steps = plan(&list_model_sql());
    assert_eq!(steps.len(), 2, "{steps:?}");
    assert!(steps[0].contains("SEARCH m USING PRIMARY KEY (model=? AND key>?)"), "{steps:?}");
    assert!(steps[1].contains("SEARCH e USING PRIMARY KEY (key=?)"), "{steps:?}");
    let steps = plan(&list_sql());
    assert_eq!(steps.len(), 1, "{steps:?}");
    assert!(steps[0].contains("INDEX registry_entries_live (key>?)"), "{steps:?}");
}
