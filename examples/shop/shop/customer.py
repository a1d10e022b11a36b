from msgspec import Struct
from msgspec.structs import replace

from eventstore import Command, Decider, Event, Rejected
from shop.money import Money


class RegisterCustomer(Command, subject="customer.register", creates=True):
    name: str


class RecordPurchase(Command, subject="customer.record_purchase"):
    order: str
    total: Money


class CustomerRegistered(Event, subject="customer.registered"):
    name: str


class PurchaseRecorded(Event, subject="customer.purchase_recorded"):
    order: str
    total: Money


class Customer(Struct, frozen=True):
    name: str = ""
    purchases: int = 0


customer = Decider("customer", initial=Customer)


@customer.decides
def register(customer: Customer, command: RegisterCustomer) -> CustomerRegistered:
    if customer.name:
        raise Rejected("already_registered", f"{customer.name} is registered")
    return CustomerRegistered(name=command.name)


@customer.decides
def record(_customer: Customer, command: RecordPurchase) -> PurchaseRecorded:  # of guests, too
    return PurchaseRecorded(order=command.order, total=command.total)


@customer.evolves
def registered(customer: Customer, event: CustomerRegistered) -> Customer:
    return replace(customer, name=event.name)


@customer.evolves
def recorded(customer: Customer, _event: PurchaseRecorded) -> Customer:
    return replace(customer, purchases=customer.purchases + 1)
