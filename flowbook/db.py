"""Database: what services want of SQLAlchemy beside their flows: ``fb.db``.

Owns: `Base`, the mixins `Created`, `Updated` and `Audit`, and `session`, a session on an app's own database. Refuses:
migrations of your tables (they are yours: `Base.metadata`), and the tables of flowbook itself (`store/tables.py`).

    class Order(fb.db.Audit, fb.db.Base):
        __tablename__ = "orders"
        id: Mapped[int] = mapped_column(primary_key=True)

    async with fb.db.session(app) as session, session.begin():
        session.add(Order(created_by="ana"))
        await app.start(fulfil, order=1, session=session)       # both are there, or neither

``import flowbook`` does not load this module, nor SQLAlchemy.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from datetime import datetime
from typing import TYPE_CHECKING

from sqlalchemy import DateTime, Text, func
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from flowbook.errors import UsageError

if TYPE_CHECKING:
    from flowbook.app import App

__all__ = ["Audit", "Base", "Created", "Updated", "session"]


class Base(DeclarativeBase):
    """The base of your models, if you have none of your own; any other base will do as well."""


class Created:
    """When a row came to be."""

    created_at: Mapped[datetime] = mapped_column(DateTime(timezone=True), server_default=func.now(), sort_order=900)
    """The database's time of its transaction."""


class Updated:
    """When a row was last changed."""

    updated_at: Mapped[datetime] = mapped_column(
        DateTime(timezone=True), server_default=func.now(), onupdate=func.now(), sort_order=901
    )
    """The database's time of the transaction that changed it through the ORM, or made it."""


class Audit(Created, Updated):
    """When a row came to be and was last changed, and by whom."""

    created_by: Mapped[str | None] = mapped_column(Text, default=None, sort_order=902)
    """Set by you; null: nobody said."""
    updated_by: Mapped[str | None] = mapped_column(Text, default=None, sort_order=903)
    """Set by you; null: nobody said."""


@contextlib.asynccontextmanager
async def session(app: App) -> AsyncIterator[AsyncSession]:
    """A session on the database that an app keeps its runs in, closed at the end.

    Committing is yours, as with any session: ``await session.commit()``, or ``session.begin()`` as a block. What is not
    committed is undone. Raises `UsageError` for an app in memory, which has no database.
    """
    make = getattr(app.store, "session", None)
    if make is None:
        raise UsageError("this app keeps its runs in memory, so it has no database to have a session on")
    made: AsyncSession = make()
    async with made:
        yield made
