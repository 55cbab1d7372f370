//! Pieces of SQL that the query builder cannot say, or would bind where an index needs a literal: a partial index is
//! used only when its condition stands in the statement itself. Each has a fixed text, so statements stay prepared.

use std::marker::PhantomData;

use diesel::backend::Backend;
use diesel::expression::{
    AppearsOnTable, Expression, SelectableExpression, ValidGrouping, is_aggregate,
};
use diesel::pg::Pg;
use diesel::query_builder::{AstPass, Query, QueryFragment, QueryId};
use diesel::query_dsl::RunQueryDsl;
use diesel::result::QueryResult;
use diesel::serialize::ToSql;
use diesel::sql_types::{BigInt, Binary, Bool, HasSqlType, Nullable, Text};
use diesel::sqlite::Sqlite;

use super::TokenUse;
use super::batch::Endings;
use super::types::{DbTs, DbUuid, Id, Ts};
use crate::domain::ActivityType;

macro_rules! literals {
    ($($(#[$doc:meta])* $name:ident: $type:ty = $sql:expr;)+) => {
        $(
            $(#[$doc])*
            #[derive(QueryId, Clone, Copy, Debug)]
            pub(crate) struct $name;

            impl Expression for $name {
                type SqlType = $type;
            }
            impl<Tables> AppearsOnTable<Tables> for $name {}
            impl<Tables> SelectableExpression<Tables> for $name {}
            impl ValidGrouping<()> for $name {
                type IsAggregate = is_aggregate::No;
            }
            impl<Db: Backend> QueryFragment<Db> for $name {
                fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Db>) -> QueryResult<()> {
                    out.push_sql($sql);
                    Ok(())
                }
            }
        )+
    };
}

literals! {
    /// The condition of the index `delegations_key`.
    HoldsKey: Bool = "delegations.idempotency_key IS NOT NULL";
    /// The condition of the index `delegations_given_back_key`.
    GaveKeyBack: Bool = "delegations.given_back_key IS NOT NULL";
    /// Whether it is found as what it is: as live, or by how it ended, and as one whose reply is owed. Counted, since
    /// PostgreSQL would read all of a table into memory to find out which rows exist.
    IsListed: Bool = "(SELECT count(*) FROM delegations_live l WHERE l.number = delegations.number) \
            = CASE delegations.standing WHEN 'live' THEN 1 ELSE 0 END \
        AND (SELECT count(*) FROM delegations_ended e WHERE e.standing = delegations.standing \
            AND e.number = delegations.number) = CASE delegations.standing WHEN 'live' THEN 0 ELSE 1 END \
        AND (SELECT count(*) FROM delegations_owed o WHERE o.number = delegations.number) \
            = CASE delegations.reply WHEN 'owed' THEN 1 ELSE 0 END";
    /// The delegation of a row that says that it lives. As an expression: SQLite would walk through all delegations to
    /// find those that live.
    OfLive: Bool = "delegations.number = +delegations_live.number";
    /// The same of one whose reply is owed.
    OfOwed: Bool = "delegations.number = +delegations_owed.number";
    /// The target, as an expression: SQLite would look among all that the target ever had, instead of by the id.
    Callee: Nullable<DbUuid> = "coalesce(delegations.callee_id, NULL)";
    /// The caller, as an expression: PostgreSQL, which knows nothing yet of a new database, would look among all that the
    /// caller ever had, instead of by the id, and keep to that.
    Caller: Nullable<DbUuid> = "coalesce(delegations.caller_id, NULL)";
    /// The number, as an expression: those of an id are found by it, and not among all that came before.
    Number: BigInt = "(delegations.number + 0)";
    /// Whether the caller's workspace, and with it its feed, still exists. One that is younger than the delegation
    /// was purged and registered again, with an empty feed.
    CallerExists: Bool = "EXISTS (SELECT 1 FROM workspaces w WHERE w.id = delegations.caller_id \
        AND w.created_at <= delegations.created_at)";
    /// Whether it may be begun again: its target is known, and nobody began it again yet. Counted, as above.
    IsRepeatable: Bool = "delegations.callee_id IS NOT NULL AND (SELECT count(*) FROM delegations r \
        WHERE r.caller_id = delegations.caller_id AND r.retry_of = delegations.delegation_id AND r.retry_of IS NOT NULL) = 0";
    /// Whether it is a child of any (the condition of the index `delegations_children`).
    IsChild: Bool = "delegations.parent_caller_id IS NOT NULL";
    /// Whether it repeats any (the condition of the index `delegations_repeats`).
    IsRepeat: Bool = "delegations.retry_of IS NOT NULL";
    /// Whether a row tells of an ending (the condition of the index `activity_logs_one_ending`).
    TellsOfEnding: Bool = "activity_logs.method = 'delegate_result' AND activity_logs.delegation_number IS NOT NULL";
    /// The beginning of the task, of which a short one has no copy.
    TaskHead: Text = "CASE WHEN delegations.task_preview = '' THEN delegations.task ELSE delegations.task_preview END";
    /// The beginning of the result: 4,096 characters, cut to bytes by the reader.
    ResultHead: Nullable<Text> = "substr(delegations.result_text, 1, 4096)";
    /// How many result rows the caller's feed holds.
    ResultRows: BigInt = "(SELECT count(*) FROM activity_logs a WHERE a.delegation_number = delegations.number \
        AND a.method = 'delegate_result' \
        AND a.activity_type = 'delegation')";
    /// How many replies the caller's feed holds.
    Replies: BigInt = "(SELECT count(*) FROM activity_logs a WHERE a.delegation_number = delegations.number \
        AND a.method = 'delegate_result' \
        AND a.activity_type = 'a2a_receive')";
    /// Whether nothing is live of what a node accepted.
    NothingLive: Bool = "NOT EXISTS (SELECT 1 FROM delegations_live l WHERE l.lease_owner = nodes.id)";
    /// Whether a receiver is told.
    IsLive: Bool = "push_receivers.state = 'live'";
    /// Whether it waits for a workspace that was removed.
    WaitsForRemoved: Bool = "delegations.status IN ('pending', 'queued') AND EXISTS (SELECT 1 FROM workspaces w \
        WHERE w.id = delegations.callee_id AND w.status = 'removed')";
    /// Whether a reply, and not a result row, is meant (the condition of the index `activity_logs_one_ending`).
    IsReply: Bool = "activity_logs.method = 'delegate_result' AND activity_logs.delegation_number IS NOT NULL \
        AND activity_logs.activity_type = 'a2a_receive'";
}

#[diesel::declare_sql_function]
extern "SQL" {
    /// Keeps an instant when there is no new one.
    #[sql_name = "coalesce"]
    fn kept_instant(new: Nullable<DbTs>, old: Nullable<DbTs>) -> Nullable<DbTs>;
    /// Tells whoever listens on a channel, when the transaction is committed.
    fn pg_notify(channel: Text, payload: Text) -> Nullable<Text>;
    /// Keeps a word when there is no new one.
    #[sql_name = "coalesce"]
    fn kept_word(new: Nullable<Text>, old: Text) -> Text;
    /// The key that it holds, else the one that it gave back.
    #[sql_name = "coalesce"]
    fn key_that_was(held: Nullable<Text>, given_back: Nullable<Text>) -> Nullable<Text>;
    /// Keeps bytes when there are no new ones.
    #[sql_name = "coalesce"]
    fn kept_bytes(new: Nullable<Binary>, old: Nullable<Binary>) -> Nullable<Binary>;
}

/// The database's own clock, where no instant is handed in and none is ever shown.
#[derive(QueryId, Clone, Copy, Debug)]
pub(crate) struct Now;

impl Expression for Now {
    type SqlType = DbTs;
}
impl<Tables> AppearsOnTable<Tables> for Now {}
impl<Tables> SelectableExpression<Tables> for Now {}
impl ValidGrouping<()> for Now {
    type IsAggregate = is_aggregate::No;
}

impl QueryFragment<Pg> for Now {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        out.push_sql("now()");
        Ok(())
    }
}

impl QueryFragment<Sqlite> for Now {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Sqlite>) -> QueryResult<()> {
        out.push_sql("CAST(unixepoch('subsec') * 1000000 AS INTEGER)");
        Ok(())
    }
}

/// So long from now, in microseconds, by the database's own clock.
#[derive(QueryId, Clone, Copy, Debug)]
pub(crate) struct FromNow(pub(crate) i64);

impl Expression for FromNow {
    type SqlType = DbTs;
}
impl<Tables> AppearsOnTable<Tables> for FromNow {}

impl QueryFragment<Pg> for FromNow {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        Now.walk_ast(out.reborrow())?;
        out.push_sql(" + ");
        out.push_bind_param::<BigInt, _>(&self.0)?;
        out.push_sql(" * interval '1 microsecond'");
        Ok(())
    }
}

impl QueryFragment<Sqlite> for FromNow {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Sqlite>) -> QueryResult<()> {
        Now.walk_ast(out.reborrow())?;
        out.push_sql(" + ");
        out.push_bind_param::<BigInt, _>(&self.0)
    }
}

/// The nodes that hold themselves although they are gone: all whose lease has expired, or only those that said so by
/// letting it end with its beginning.
#[derive(QueryId, Clone, Copy, Debug)]
pub(crate) struct GoneNodes {
    pub(crate) but: Id,
    pub(crate) all_expired: bool,
}

impl Expression for GoneNodes {
    type SqlType = Bool;
}
impl<Tables> AppearsOnTable<Tables> for GoneNodes {}
impl ValidGrouping<()> for GoneNodes {
    type IsAggregate = is_aggregate::No;
}

impl<Db> QueryFragment<Db> for GoneNodes
where
    Db: Backend + HasSqlType<DbUuid> + HasSqlType<Bool>,
    Id: ToSql<DbUuid, Db>,
    bool: ToSql<Bool, Db>,
    Now: QueryFragment<Db>,
{
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Db>) -> QueryResult<()> {
        out.push_sql("nodes.holder = nodes.id AND nodes.expires_at < ");
        Now.walk_ast(out.reborrow())?;
        out.push_sql(" AND (nodes.expires_at <= nodes.started_at OR ");
        out.push_bind_param::<Bool, _>(&self.all_expired)?;
        out.push_sql(") AND nodes.id <> ");
        out.push_bind_param::<DbUuid, _>(&self.but)
    }
}

/// `delegations.history` with this behind it.
#[derive(QueryId, Clone, Debug)]
pub(crate) struct HistoryWith(pub(crate) String);

impl Expression for HistoryWith {
    type SqlType = Text;
}
impl<Tables> AppearsOnTable<Tables> for HistoryWith {}

impl<Db> QueryFragment<Db> for HistoryWith
where
    Db: Backend + HasSqlType<Text>,
    String: ToSql<Text, Db>,
{
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Db>) -> QueryResult<()> {
        out.push_sql("delegations.history || ");
        out.push_bind_param::<Text, _>(&self.0)
    }
}

/// Notes when tokens were last used, unless they are revoked, or were used later still.
#[derive(Clone, Debug)]
pub(crate) struct TokenUses<'a>(Vec<(&'a [u8], Ts)>);

impl<'a> TokenUses<'a> {
    pub(crate) fn of(uses: &'a [TokenUse]) -> Self {
        let uses = uses.iter();
        Self(uses.map(|used| (&used.hash[..], used.at.into())).collect())
    }
}

impl QueryId for TokenUses<'_> {
    type QueryId = ();
    // As many texts as there are numbers of tokens.
    const HAS_STATIC_QUERY_ID: bool = false;
}
impl<Conn> RunQueryDsl<Conn> for TokenUses<'_> {}

impl<Db> QueryFragment<Db> for TokenUses<'_>
where
    Db: Backend + HasSqlType<Binary> + HasSqlType<DbTs>,
    [u8]: ToSql<Binary, Db>,
    Ts: ToSql<DbTs, Db>,
{
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Db>) -> QueryResult<()> {
        out.unsafe_to_cache_prepared();
        out.push_sql("UPDATE workspace_auth_tokens SET last_used_at = used.column2 FROM (VALUES ");
        for (index, (hash, at)) in self.0.iter().enumerate() {
            out.push_sql(if index == 0 { "(" } else { ", (" });
            out.push_bind_param::<Binary, [u8]>(hash)?;
            out.push_sql(", ");
            out.push_bind_param::<DbTs, _>(at)?;
            out.push_sql(")");
        }
        out.push_sql(
            ") AS used WHERE token_hash = used.column1 AND revoked_at IS NULL \
             AND (last_used_at IS NULL OR last_used_at < used.column2)",
        );
        Ok(())
    }
}

/// A statement of Diesel's that is written and prepared once, which by itself it would be each time. `Text` stands for its
/// text, which must always be the same.
#[derive(Clone, Debug)]
pub(crate) struct Prepared<Text, Statement> {
    statement: Statement,
    _text: PhantomData<Text>,
}

impl<Text, Statement> Prepared<Text, Statement> {
    pub(crate) fn new(_: Text, statement: Statement) -> Self {
        Self {
            statement,
            _text: PhantomData,
        }
    }
}

impl<Text: 'static, Statement> QueryId for Prepared<Text, Statement> {
    type QueryId = Text;
    const HAS_STATIC_QUERY_ID: bool = true;
}
impl<Text, Statement: Query> Query for Prepared<Text, Statement> {
    type SqlType = Statement::SqlType;
}
impl<Text, Statement, Conn> RunQueryDsl<Conn> for Prepared<Text, Statement> {}

impl<Db, Text, Statement> QueryFragment<Db> for Prepared<Text, Statement>
where
    Db: Backend,
    Statement: QueryFragment<Db>,
{
    fn walk_ast<'b>(&'b self, out: AstPass<'_, 'b, Db>) -> QueryResult<()> {
        self.statement.walk_ast(out)
    }

    // Whoever names a text says so; to find out would be a walk through all of it for each execution.
    fn is_safe_to_cache_prepared(&self, _: &Db) -> QueryResult<bool> {
        Ok(true)
    }
}

/// Puts the delegation of this number among those that ended, if it is not there.
#[derive(QueryId, Clone, Copy, Debug)]
pub(crate) struct Settle(pub(crate) i64);

impl<Conn> RunQueryDsl<Conn> for Settle {}

impl<Db> QueryFragment<Db> for Settle
where
    Db: Backend + HasSqlType<BigInt>,
    i64: ToSql<BigInt, Db>,
{
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Db>) -> QueryResult<()> {
        out.push_sql(
            "INSERT INTO delegations_ended (number, standing, caller_id, callee_id) \
             SELECT number, standing, caller_id, callee_id FROM delegations WHERE number = ",
        );
        out.push_bind_param::<BigInt, _>(&self.0)?;
        out.push_sql(" ON CONFLICT DO NOTHING");
        Ok(())
    }
}

/// Takes so many places of the feed, if a node holds its own row; answers with the last.
#[derive(QueryId, Clone, Copy, Debug)]
pub(crate) struct TakePlaces {
    pub(crate) node: Id,
    pub(crate) number: i64,
}

impl Query for TakePlaces {
    type SqlType = BigInt;
}
impl<Conn> RunQueryDsl<Conn> for TakePlaces {}

impl<Db> QueryFragment<Db> for TakePlaces
where
    Db: Backend + HasSqlType<BigInt> + HasSqlType<DbUuid>,
    i64: ToSql<BigInt, Db>,
    Id: ToSql<DbUuid, Db>,
{
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Db>) -> QueryResult<()> {
        out.push_sql("UPDATE feed_position SET last = last + ");
        out.push_bind_param::<BigInt, _>(&self.number)?;
        out.push_sql(" WHERE id = 1 AND EXISTS (SELECT 1 FROM nodes WHERE nodes.holder = nodes.id AND nodes.id = ");
        out.push_bind_param::<DbUuid, _>(&self.node)?;
        out.push_sql(") RETURNING last");
        Ok(())
    }
}

/// Counts what ended.
#[derive(QueryId, Clone, Copy, Debug)]
pub(crate) struct CountEndings(pub(crate) Endings);

impl<Conn> RunQueryDsl<Conn> for CountEndings {}

impl<Db> QueryFragment<Db> for CountEndings
where
    Db: Backend + HasSqlType<BigInt>,
    i64: ToSql<BigInt, Db>,
{
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Db>) -> QueryResult<()> {
        out.push_sql("UPDATE feed_position SET completed = completed + ");
        out.push_bind_param::<BigInt, _>(&self.0.completed)?;
        out.push_sql(", failed = failed + ");
        out.push_bind_param::<BigInt, _>(&self.0.failed)?;
        out.push_sql(", cancelled = cancelled + ");
        out.push_bind_param::<BigInt, _>(&self.0.cancelled)?;
        out.push_sql(" WHERE id = 1");
        Ok(())
    }
}

/// The newest place of a workspace's feed, by one look for each type of row.
#[derive(QueryId, Clone, Copy, Debug)]
pub(crate) struct NewestPlace(pub(crate) Id);

impl Query for NewestPlace {
    type SqlType = Nullable<BigInt>;
}
impl<Conn> RunQueryDsl<Conn> for NewestPlace {}

impl<Db> QueryFragment<Db> for NewestPlace
where
    Db: Backend + HasSqlType<DbUuid>,
    Id: ToSql<DbUuid, Db>,
{
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Db>) -> QueryResult<()> {
        for (number, word) in ActivityType::ALL.iter().enumerate() {
            out.push_sql(if number == 0 {
                "SELECT max(newest) FROM ("
            } else {
                " UNION ALL "
            });
            out.push_sql("SELECT max(seq) AS newest FROM activity_logs WHERE activity_type = '");
            out.push_sql(word.as_str());
            out.push_sql("' AND workspace_id = ");
            out.push_bind_param::<DbUuid, _>(&self.0)?;
        }
        out.push_sql(") AS of_types");
        Ok(())
    }
}

/// A workspace's line, itself first, at most 32 long.
#[derive(QueryId, Clone, Copy, Debug)]
pub(crate) struct Ancestry(pub(crate) Id);

impl Query for Ancestry {
    type SqlType = DbUuid;
}
impl<Conn> RunQueryDsl<Conn> for Ancestry {}

impl<Db> QueryFragment<Db> for Ancestry
where
    Db: Backend + HasSqlType<DbUuid>,
    Id: ToSql<DbUuid, Db>,
{
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Db>) -> QueryResult<()> {
        out.push_sql(
            "WITH RECURSIVE line (id, parent_id, depth) AS (\
             SELECT id, parent_id, 1 FROM workspaces WHERE id = ",
        );
        out.push_bind_param::<DbUuid, _>(&self.0)?;
        out.push_sql(
            " UNION ALL SELECT w.id, w.parent_id, line.depth + 1 FROM workspaces w \
             JOIN line ON w.id = line.parent_id WHERE line.depth < 32) \
             SELECT id FROM line ORDER BY depth",
        );
        Ok(())
    }
}

/// Whether a delegation is live; or nothing at all.
#[derive(QueryId, Clone, Copy, Debug)]
pub(crate) struct LivesOr(pub(crate) bool);

impl Expression for LivesOr {
    type SqlType = Bool;
}
impl<Tables> AppearsOnTable<Tables> for LivesOr {}
impl ValidGrouping<()> for LivesOr {
    type IsAggregate = is_aggregate::No;
}

impl<Db> QueryFragment<Db> for LivesOr
where
    Db: Backend + HasSqlType<Bool>,
    bool: ToSql<Bool, Db>,
{
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Db>) -> QueryResult<()> {
        out.push_sql("(delegations.standing = 'live' OR ");
        out.push_bind_param::<Bool, _>(&self.0)?;
        out.push_sql(")");
        Ok(())
    }
}
