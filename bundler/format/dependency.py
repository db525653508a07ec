"""What a customer's business depends on, as its profile lists it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class DependencySpec:
    """A line of the dependency inventory (R67 to R69)."""

    service: str
    business_function: str
    cloud_provider: str
    region: str
    ai_model_provider: str
    auth_method: str
    criticality: str
    failover_plan: str
    rto: str
    rpo: str
    owner: str
    contacts: tuple[str, ...]
