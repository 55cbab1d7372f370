//! Statements over many rows at once, for `PostgreSQL`: one array for each column, taken apart by `unnest`. Their text
//! does not depend on how many rows there are, so that they stay prepared.

use std::marker::PhantomData;

use diesel::PgConnection;
use diesel::pg::Pg;
use diesel::query_builder::{AstPass, Query, QueryFragment, QueryId};
use diesel::query_dsl::RunQueryDsl;
use diesel::result::QueryResult;
use diesel::serialize::ToSql;
use diesel::sql_types::{Array, HasSqlType};

type Bind<'a> = Box<dyn QueryFragment<Pg> + 'a>;

/// A statement in the making; `Answer` is the SQL type of what it returns.
pub(crate) struct Columnar<'a, Answer = ()> {
    pieces: Vec<(&'static str, Vec<Bind<'a>>)>,
    answer: PhantomData<Answer>,
}

impl<'a, Answer> Columnar<'a, Answer> {
    pub(crate) const fn new() -> Self {
        Self {
            pieces: Vec::new(),
            answer: PhantomData,
        }
    }

    /// Goes on with this text, and after it these values, separated by commas.
    pub(crate) fn then(mut self, text: &'static str, values: Vec<Bind<'a>>) -> Self {
        self.pieces.push((text, values));
        self
    }
}

/// An array with one value for each row.
pub(crate) fn array<'a, Type, Value>(values: impl Iterator<Item = Value>) -> Bind<'a>
where
    Pg: HasSqlType<Type> + HasSqlType<Array<Type>>,
    Type: 'static,
    Value: 'a,
    Vec<Value>: ToSql<Array<Type>, Pg>,
{
    Box::new(Values::<Array<Type>, _>(
        values.collect::<Vec<Value>>(),
        PhantomData,
    ))
}

/// One value.
pub(crate) fn value<'a, Type, Value>(value: Value) -> Bind<'a>
where
    Pg: HasSqlType<Type>,
    Type: 'static,
    Value: ToSql<Type, Pg> + 'a,
{
    Box::new(Values::<Type, _>(value, PhantomData))
}

struct Values<Type, Value>(Value, PhantomData<Type>);

impl<Type, Value> QueryFragment<Pg> for Values<Type, Value>
where
    Pg: HasSqlType<Type>,
    Value: ToSql<Type, Pg>,
{
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        out.push_bind_param::<Type, Value>(&self.0)
    }
}

impl<Answer> QueryFragment<Pg> for Columnar<'_, Answer> {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        for (text, values) in &self.pieces {
            out.push_sql(text);
            for (place, value) in values.iter().enumerate() {
                if place > 0 {
                    out.push_sql(", ");
                }
                value.walk_ast(out.reborrow())?;
            }
        }
        Ok(())
    }
}

/// No type tells one of these from another: Diesel keeps them prepared by their text.
impl<Answer> QueryId for Columnar<'_, Answer> {
    type QueryId = ();

    const HAS_STATIC_QUERY_ID: bool = false;
}

impl<Answer> Query for Columnar<'_, Answer> {
    type SqlType = Answer;
}

impl<Answer> RunQueryDsl<PgConnection> for Columnar<'_, Answer> {}

/// The columns of some rows, each as an array, by the type that the table gives it: `column: field` for each.
macro_rules! arrays {
    ($rows:expr, $table:ident { $($column:ident: $($field:ident).+),+ $(,)? }) => {
        vec![$(
            $crate::store::columnar::array::<
                <$crate::store::schema::$table::$column as diesel::Expression>::SqlType, _
            >($rows.iter().map(|row| &row.$($field).+))
        ),+]
    };
}
pub(crate) use arrays;
