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

enum Piece<'a> {
    Text(&'static str),
    Value(Bind<'a>),
}

/// A statement in the making; `Answer` is the SQL type of what it returns.
pub(crate) struct Columnar<'a, Answer = ()> {
    pieces: Vec<Piece<'a>>,
    answer: PhantomData<Answer>,
}

impl<'a, Answer> Columnar<'a, Answer> {
    pub(crate) fn new(text: &'static str) -> Self {
        Self {
            pieces: vec![Piece::Text(text)],
            answer: PhantomData,
        }
    }

    /// Goes on with this text.
    pub(crate) fn text(mut self, text: &'static str) -> Self {
        self.pieces.push(Piece::Text(text));
        self
    }

    /// Goes on with this value, and this text after it.
    pub(crate) fn value<Type, Value>(mut self, value: Value, text: &'static str) -> Self
    where
        Pg: HasSqlType<Type>,
        Type: 'a,
        Value: ToSql<Type, Pg> + 'a,
    {
        let value = Values::<Type, _>(value, PhantomData);
        self.pieces.push(Piece::Value(Box::new(value)));
        self.text(text)
    }

    /// Goes on with the names of these columns.
    pub(crate) fn names(self, columns: &[Column<'a>]) -> Self {
        let said = columns.iter().filter(|column| column.values.is_some());
        let piece = |all: Self, column: &Column<'a>| all.text(column.name);
        self.separated(said, piece)
    }

    /// Goes on with what gives each of these columns the value of the column of this name in `v`, or none.
    pub(crate) fn changes(self, columns: &[Column<'a>]) -> Self {
        let piece = |all: Self, column: &Column<'a>| {
            let all = all.text(column.name);
            match column.values {
                Some(_) => all.text(" = v.").text(column.name),
                None => all.text(" = NULL"),
            }
        };
        self.separated(columns.iter(), piece)
    }

    /// Goes on with the columns themselves: one row for each place of the arrays.
    pub(crate) fn rows(self, columns: impl IntoIterator<Item = Column<'a>>) -> Self {
        let piece = |mut all: Self, (values, column): (Bind<'a>, Column<'a>)| {
            let (before, after) = column.within;
            all = all.text(before).text("unnest(");
            all.pieces.push(Piece::Value(values));
            all.text(")").text(after).text(" AS ").text(column.name)
        };
        let said = |mut column: Column<'a>| Some((column.values.take()?, column));
        self.separated(columns.into_iter().filter_map(said), piece)
    }

    fn separated<T>(self, all: impl Iterator<Item = T>, piece: impl Fn(Self, T) -> Self) -> Self {
        all.enumerate().fold(self, |whole, (place, one)| {
            let whole = if place > 0 { whole.text(", ") } else { whole };
            piece(whole, one)
        })
    }
}

/// A column with one value for each row.
pub(crate) struct Column<'a> {
    name: &'static str,
    /// None when no row has one.
    values: Option<Bind<'a>>,
    /// What is computed of each value: the text before it, and the text after it.
    within: (&'static str, &'static str),
}

impl<'a> Column<'a> {
    pub(crate) fn new<Type, Value>(name: &'static str, values: impl Iterator<Item = Value>) -> Self
    where
        Pg: HasSqlType<Type> + HasSqlType<Array<Type>>,
        Type: 'static,
        Value: 'a,
        Vec<Value>: ToSql<Array<Type>, Pg>,
    {
        let values = values.collect::<Vec<Value>>();
        Self {
            name,
            values: Some(Box::new(Values::<Array<Type>, _>(values, PhantomData))),
            within: ("", ""),
        }
    }

    /// A column that has no value in any row.
    pub(crate) const fn absent(name: &'static str) -> Self {
        Self {
            name,
            values: None,
            within: ("", ""),
        }
    }

    /// Computes what is stored from the value, with this text before and that after it.
    pub(crate) const fn within(mut self, before: &'static str, after: &'static str) -> Self {
        self.within = (before, after);
        self
    }
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
        for piece in &self.pieces {
            match piece {
                Piece::Text(text) => out.push_sql(text),
                Piece::Value(value) => value.walk_ast(out.reborrow())?,
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

/// The columns of some rows, by the type that the table gives each: `column: field` for each.
macro_rules! columns {
    ($rows:expr, $table:ident { $($column:ident: $($field:ident).+),+ $(,)? }) => {
        vec![$(
            $crate::store::columnar::Column::new::<
                <$crate::store::schema::$table::$column as diesel::Expression>::SqlType, _
            >(stringify!($column), $rows.iter().map(|row| &row.$($field).+))
        ),+]
    };
}
pub(crate) use columns;

/// The same of columns that are seldom there: none of them is sent unless a row has one. They go together, so that
/// there are no more than two texts.
macro_rules! seldom_columns {
    ($rows:expr, $table:ident { $($column:ident: $($field:ident).+),+ $(,)? }) => {
        if $rows.iter().any(|row| $(row.$($field).+.is_some())||+) {
            $crate::store::columnar::columns!($rows, $table { $($column: $($field).+),+ })
        } else {
            vec![$($crate::store::columnar::Column::absent(stringify!($column))),+]
        }
    };
}
pub(crate) use seldom_columns;
