"""Arms to trials: one searcher and one scheduler for each arm, behind Ray Tune's interfaces."""

from fpt_ray.search.arm import ArmSearch
from fpt_ray.search.ledger import Ledger
from fpt_ray.search.scheduler import ArmScheduler
from fpt_ray.search.searcher import ArmSearcher

__all__ = ["ArmScheduler", "ArmSearch", "ArmSearcher", "Ledger"]
