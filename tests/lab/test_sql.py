"""The world of text-to-SQL."""

from __future__ import annotations

import numpy as np
import pytest

from turnout.core import InputError, Outcomes
from turnout.lab.sql import KINDS, Database, Question, databases, questions
from turnout.lab.sql_pipelines import PIPELINES, advanced, basic, intermediate, linked, outcomes


@pytest.fixture(scope="module")
def asked() -> tuple[Question, ...]:
    return questions(200, np.random.default_rng(0))


@pytest.fixture(scope="module")
def table(asked: tuple[Question, ...]) -> Outcomes:
    return outcomes(asked)


@pytest.fixture
def school() -> Database:
    return databases()["school"]


def test_every_gold_query_runs_and_answers(asked: tuple[Question, ...]) -> None:
    """Its rows are not empty, and it is right by its own measure."""
    for question in asked:
        db = databases()[question.database]
        assert db.run(question.gold)
        assert db.right(question.gold, question.gold)
    assert {question.kind for question in asked} == set(KINDS)
    assert {question.database for question in asked} == set(databases())
    assert len({(question.database, question.text) for question in asked}) == 200


def test_questions_come_from_the_rng_alone(asked: tuple[Question, ...]) -> None:
    """The same seed draws the same questions, another one others."""
    assert questions(200, np.random.default_rng(0)) == asked
    assert questions(200, np.random.default_rng(1)) != asked


@pytest.mark.parametrize(
    "sql",
    [
        "",
        "no SQL at all",
        "SELECT",
        "SELECT nothing FROM teacher",
        "DROP TABLE teacher",
        "DELETE FROM teacher",
        "INSERT INTO teacher VALUES (99, 'x', 1, 1, 1)",
        "UPDATE teacher SET age = 1",
        "PRAGMA query_only = 0",
        "ATTACH ':memory:' AS other",
        "CREATE TABLE t (x)",
        "SELECT 1; SELECT 2",
        "SELECT load_extension('x')",
        "\ud800",
        "SELECT '\0'",
        # these would go on for ever, fill the memory, or return too much
        "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT COUNT(*) FROM n",
        "SELECT COUNT(*) FROM enrolment a, enrolment b, enrolment c, enrolment d",
        "SELECT LENGTH(zeroblob(1000000000))",
        "SELECT a.id FROM enrolment a, enrolment b",
    ],
)
def test_whatever_is_run_returns_nothing_and_changes_nothing(school: Database, sql: str) -> None:
    """It is wrong, not an exception; and the data stay."""
    before = school.run("SELECT * FROM teacher")
    assert school.run(sql) is None
    assert not school.right("SELECT name FROM teacher", sql)
    assert school.run("SELECT * FROM teacher") == before
    assert school.run("SELECT COUNT(*) FROM teacher") == ((10,),)


def test_rows_match_in_any_order_but_count(school: Database) -> None:
    """Doubles and the order of columns matter; the order of rows and 1 or 1.0 do not."""
    gold = "SELECT city FROM department"
    assert school.right(gold, "SELECT city FROM department ORDER BY budget")
    assert school.right("SELECT 1", "SELECT 1.0")
    assert school.right("SELECT AVG(age) FROM teacher", "SELECT SUM(age) / 10.0 FROM teacher")
    assert not school.right(gold, "SELECT DISTINCT city FROM department WHERE id > 1")
    assert not school.right("SELECT name, age FROM teacher", "SELECT age, name FROM teacher")
    empty = "SELECT city FROM department WHERE id < 0"
    assert school.right(empty, "SELECT title FROM department WHERE id > 999")
    assert not school.right(gold, empty)
    with pytest.raises(InputError, match="gold must be SQL that runs"):
        school.right("SELECT", "SELECT 1")


def test_ways_along_the_joins(school: Database) -> None:
    """From enrolments to the departments of students, and back; nowhere from a stranger."""
    assert school.path("enrolment", "department") == (
        ("enrolment", "student"),
        ("student", "department"),
    )
    assert school.join("department", "enrolment") == (
        "FROM department JOIN student ON student.department_id = department.id "
        "JOIN enrolment ON enrolment.student_id = student.id"
    )
    assert school.path("student", "nothing") is None
    assert databases()["shop"].join("customer", "nothing") is None


@pytest.mark.parametrize(
    ("question", "solved"),
    [
        ("How many teachers are there whose age is above 40?", (True, True, True)),
        ("How many teachers are there whose pay is above 40?", (False, True, True)),
        ("What is the average pay of the teachers whose age is above 40?", (False, True, True)),
        ("How many students are there whose department has a budget above 50?",
         (False, True, True)),
        ("For each department give the title and the number of its teachers.",
         (False, True, True)),
        ("How many students are there linked to a course whose credits is above 2?",
         (False, False, True)),
        ("List the title of every department that has no student.", (False, False, True)),
        ("What is the second highest age of the teachers?", (False, False, False)),
    ],
)  # fmt: skip
def test_ability_grows(school: Database, question: str, solved: tuple[bool, ...]) -> None:
    """One table, other words, a join, groups, chains, what is nested; and what nobody knows."""
    gold = {
        "teachers are there whose": "SELECT COUNT(*) FROM teacher WHERE {} > 40",
        "average pay": "SELECT AVG(salary) FROM teacher WHERE age > 40",
        "budget": "SELECT COUNT(*) FROM student s JOIN department d ON s.department_id = d.id "
        "WHERE d.budget > 50",
        "For each": "SELECT d.title, COUNT(*) FROM department d JOIN teacher t "
        "ON t.department_id = d.id GROUP BY d.id",
        "credits": "SELECT COUNT(DISTINCT s.id) FROM student s JOIN enrolment e ON "
        "e.student_id = s.id JOIN course c ON e.course_id = c.id WHERE c.credits > 2",
        "no student": "SELECT title FROM department WHERE id NOT IN "
        "(SELECT department_id FROM student)",
        "second": "SELECT DISTINCT age FROM teacher ORDER BY age DESC LIMIT 1 OFFSET 1",
    }
    sql = next(value for words, value in gold.items() if words in question)
    sql = sql.format("salary" if "pay" in question else "age")
    told = tuple(school.right(sql, run(question, school).sql) for run in PIPELINES.values())
    assert told == solved


def test_a_value_without_a_column_is_looked_up() -> None:
    """The refiner finds it in a parent where the table itself does not hold it."""
    shop = databases()["shop"]
    ((city,),) = shop.run("SELECT s.city FROM supplier s JOIN product p ON p.supplier_id = s.id "
                          "WHERE p.id = 1") or ()  # fmt: skip
    question = f"How many products are there from {city}?"
    gold = (
        "SELECT COUNT(*) FROM product p JOIN supplier s ON p.supplier_id = s.id "
        f"WHERE s.city = '{city}'"
    )
    assert not shop.right(gold, basic(question, shop).sql)
    assert shop.right(gold, intermediate(question, shop).sql)


@pytest.mark.parametrize(
    "question",
    ["", "?", "Tell me a joke.", "List the x of every dragon whose y is above 3.",
     "For each dragon give the x and the number of its teachers.",
     "Which dragon has the most teachers? Give the name.",
     "How many teachers are there linked to a dragon whose x is above 3?",
     "List the name of every teacher whose name is equal to O'Hara; DROP TABLE teacher."],
)  # fmt: skip
def test_nonsense_is_answered_by_something_that_is_wrong(school: Database, question: str) -> None:
    """No pipeline raises, whatever it is asked; each still costs tokens."""
    for pipeline in PIPELINES.values():
        answer = pipeline(question, school)
        assert answer.tokens > 0
        assert not school.right("SELECT name, age, salary FROM teacher", answer.sql)


def test_pipelines_rise_in_quality_and_in_cost(table: Outcomes) -> None:
    """On average, and the dearer one nearly always solves what a cheaper one does."""
    quality, cost = table.mean_quality(), table.mean_cost()
    assert 0.3 < quality[0] < quality[1] - 0.1 < quality[2] - 0.2
    assert quality[2] < 1.0
    assert cost[0] * 1.2 < cost[1] < cost[2] / 1.5
    assert (table.quality[:, 0] > table.quality[:, 2]).mean() < 0.02


def test_a_router_reads_the_question_and_the_schema_alone(
    table: Outcomes, asked: tuple[Question, ...]
) -> None:
    """No gold SQL, no kind and no value of the data but those of the question itself."""
    for text, question in zip(table.inputs, asked, strict=True):
        head, _, schema = str(text).partition("\n\n")
        assert head == question.text
        names = {t.line for t in databases()[question.database].tables.values()}
        assert set(schema.split("\n")) <= names


def test_linked_tables_by_hand(school: Database) -> None:
    """Those that are named and those between; all where none is."""
    text = linked(
        "How many students are there linked to a course whose credits is above 2?", school
    )
    assert text.split("\n")[2:] == [
        "student: id, name, age, town, department_id -> department.id",
        "course: id, title, credits, teacher_id -> teacher.id",
        "enrolment: id, grade, year, student_id -> student.id, course_id -> course.id",
    ]
    assert len(linked("Anything?", school).split("\n")) == 2 + 5


def test_the_vote_counts_results_and_not_queries(school: Database) -> None:
    """Students are counted once, though joined as often as they are enrolled."""
    question = "How many students are there linked to a course whose credits is above 2?"
    rows = school.run(advanced(question, school).sql)
    assert rows is not None
    assert rows[0][0] <= 30
