//! What an older muster has stored is there for a newer one, and a copy of it beside.

use std::path::Path;

use insta::assert_snapshot;
use sqlx::AnyPool;
use sqlx::migrate::Migrator;

use crate::database::{Database, on_both};
use crate::scene::masked;
use crate::server::Server;

on_both! {
    the_first_schema_is_brought_up_to_date_with_what_it_holds,
}

/// What `muster demo --once` had stored with the first schema.
const SAMPLE: &str = include_str!("data/0001_walk.sql");

/// A repository at GitHub with two pushes to `main`, the second of which is the last.
const AT_GITHUB: &str = "
    INSERT INTO repositories (id, number, name, kind, location, forge_id, adopted, default_branch, added_at) \
    VALUES ('gh', 2, 'team/app', 'github', 'team/app', 4711, 1, 'main', 5);
    INSERT INTO events (id, number, repository_id, received_at, change, subject, sha, failures, next_try_at, outcome) \
    VALUES ('e1', 11, 'gh', 6, '{}', 'refs/heads/main', '1111111111111111111111111111111111111111', 0, 0, 'accepted');
    INSERT INTO events (id, number, repository_id, received_at, change, subject, sha, failures, next_try_at, outcome) \
    VALUES ('e2', 12, 'gh', 7, '{}', 'refs/heads/main', '2222222222222222222222222222222222222222', 0, 0, 'accepted');
";

pub(crate) fn block_on<T>(work: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(work)
}

/// Makes a database as the first schema had it.
pub(crate) async fn first_schema(url: &str) {
    sqlx::any::install_default_drivers();
    let pool = AnyPool::connect(url).await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let name = "0001_walk.sql";
    let migrations = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/store/migrations");
    std::fs::copy(migrations.join(name), folder.path().join(name)).unwrap();
    Migrator::new(folder.path()).await.unwrap().run(&pool).await.unwrap();
    sqlx::raw_sql(SAMPLE).execute(&pool).await.unwrap();
    sqlx::raw_sql(AT_GITHUB).execute(&pool).await.unwrap();
    pool.close().await;
}

/// Returns what the server lists of the runs that it found.
pub(crate) fn runs_of_the_first_schema(server: &Server) -> String {
    let runs = server.muster(&["runs"]).out;
    runs.lines().map(|line| masked(line) + "\n").collect()
}

fn the_first_schema_is_brought_up_to_date_with_what_it_holds(database: Database) {
    let mut url = String::new();
    let server = Server::start_on(database, |of| {
        of.clone_into(&mut url);
        block_on(first_schema(of));
    });
    let at: Vec<String> = block_on(async {
        let pool = AnyPool::connect(&url).await.unwrap();
        let query = sqlx::query_scalar("SELECT sha FROM refs WHERE repository_id = 'gh'");
        query.fetch_all(&pool).await.unwrap()
    });
    assert_eq!(at, ["2".repeat(40)]);
    assert_snapshot!(runs_of_the_first_schema(&server), @"
    2 success Greet who is there (CI #2) demo refs/heads/evening-1
    1 failure Greet in the evening (CI #1) demo refs/heads/evening-1
    ");
    let listed = server.muster(&["repo", "list"]).out;
    assert!(listed.starts_with("demo  /srv/demo/project.git"), "{listed}");
    assert!(listed.ends_with("team/app  team/app\n"), "{listed}");
    // The copy is of the schema before.
    let copies: Vec<_> =
        std::fs::read_dir(server.data().join("backups")).unwrap().flatten().collect();
    assert_eq!(copies.len(), 1);
    assert!(copies[0].file_name().to_string_lossy().starts_with("before-2-"));
    if matches!(database, Database::Sqlite) {
        let url = format!("sqlite://{}", copies[0].path().display());
        let count: i64 = block_on(async {
            let pool = AnyPool::connect(&url).await.unwrap();
            sqlx::query_scalar("SELECT MAX(version) FROM _sqlx_migrations").fetch_one(&pool).await
        })
        .unwrap();
        assert_eq!(count, 1);
    }
}
