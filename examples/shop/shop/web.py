from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated
from uuid import UUID, uuid5

import msgspec
from fastapi import Depends, FastAPI, Header, HTTPException, Query, Request, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel

from eventstore import EventStoreError
from eventstore.application.service import RunningApplication
from eventstore.errors import QueryNotFound
from shop.app import app
from shop.order import PayOrder, PlaceOrder
from shop.reading import GetOrder

KEYS = UUID("6f0b7a0e-5d0c-4c53-9a3c-0e9b1c1f7d52")  # of idempotency keys; must never change
STATUS = {"rejected": 409, "command_id_reused": 422}


class Price(BaseModel):
    amount: int
    currency: str


class NewOrder(BaseModel):
    customer: str
    article: str
    quantity: int
    price: Price


@asynccontextmanager
async def lifespan(web: FastAPI) -> AsyncIterator[None]:
    async with app.running() as web.state.shop:
        yield


def running(request: Request) -> RunningApplication:
    shop: RunningApplication = request.app.state.shop
    return shop


web = FastAPI(title="shop", lifespan=lifespan)
Shop = Annotated[RunningApplication, Depends(running)]
Key = Annotated[str, Header(alias="Idempotency-Key", min_length=1)]
Position = Annotated[int | None, Query(ge=0, lt=2**63)]


@web.post("/orders", status_code=201)
async def place(new: NewOrder, key: Key, shop: Shop, response: Response) -> dict[str, str | int]:
    try:
        command = msgspec.convert(new.model_dump(), PlaceOrder)
    except msgspec.ValidationError as error:
        raise HTTPException(422, str(error)) from error
    outcome = await shop.execute(command, command_id=str(uuid5(KEYS, key)))
    if outcome.status != "success":
        status = STATUS.get(outcome.code) or STATUS.get(outcome.status, 500)
        raise HTTPException(status, {"code": outcome.code, "message": outcome.message})
    response.headers["Location"] = f"/orders/{outcome.aggregate_id}?position={outcome.position}"
    return {"id": str(outcome.aggregate_id), "position": outcome.position}


@web.post("/orders/{order}/payment", status_code=204)
async def pay(order: str, shop: Shop) -> None:
    outcome = await shop.execute(PayOrder(), order)
    if outcome.status != "success":
        status = STATUS.get(outcome.status, 500)
        raise HTTPException(status, {"code": outcome.code, "message": outcome.message})


@web.get("/orders/{order}")
async def show(order: str, shop: Shop, position: Position = None) -> dict[str, object]:
    try:
        view = await shop.ask(GetOrder(id=order), wait_for=position)
    except QueryNotFound as error:
        raise HTTPException(404, str(error)) from error
    return msgspec.structs.asdict(view)


@web.exception_handler(EventStoreError)
async def failed(_request: Request, error: EventStoreError) -> JSONResponse:
    detail = {"code": error.code, "message": str(error)}
    return JSONResponse({"detail": detail}, 503 if error.retryable else 500)
