"""The built-in strategies. Made by `python/generate` from what Rust declares: change it there."""

from __future__ import annotations

from collections.abc import Sequence

from ._strategy import Strategy

#: A parameter.
Parameter = float | str | Sequence[str] | None


class AsoFed(Strategy):
    """x += Σ (n_k/N)·(w_k - x), N the examples of everybody who was ever heard of.

    From: Chen et al. 2020, Asynchronous Online Federated Learning for Edge Devices with Non-IID Data.

    Args:
        total_samples: N, a number above 0. Default: the newest claims of all authors so far.
        accept_failures: Whether to fold though some updates could not be used: true or false. Default: true.
        average: Glob patterns of tensors that are averaged and never stepped, separated by spaces or ;. They are
            added to the running statistics. Rules that take no step fold them as all others. Default: running
            statistics, by their names.
        step: Glob patterns of tensors that the rule folds although their names are those of running statistics.
            Default: all that isn't averaged or local.
        local: Glob patterns of tensors that keep the node's own values in a fold. They are published all the same,
            and a node that begins from a fold takes their mean. Default: no tensor.
        integers: Newest: integer and boolean tensors come whole from the newest update; mean: they are averaged by
            the shares of the updates and rounded, halves to even. Default: newest.
    """

    def __init__(
        self,
        *,
        total_samples: Parameter = None,
        accept_failures: Parameter = None,
        average: Parameter = None,
        step: Parameter = None,
        local: Parameter = None,
        integers: Parameter = None,
    ) -> None:
        """The rule with these parameters."""
        super().__init__(
            "asofed",
            **{
                "total_samples": total_samples,
                "accept_failures": accept_failures,
                "average": average,
                "step": step,
                "local": local,
                "integers": integers,
            },
        )


class AsyncFedED(Strategy):
    """One update after the other: x += η·Δ, η = lambda/(γ + epsilon), γ = ‖x - x_τ‖/‖Δ‖, Δ = w - x_τ, x_τ the own x
    of τ folds ago, which approximates what the update began from.

    From: Wang et al. 2022, AsyncFedED: Asynchronous Federated Learning with Euclidean Distance based Adaptive
    Weight Aggregation.

    Args:
        lambda_: λ, a number above 0. Default: 1.
        epsilon: ε, a number above 0. Default: 1.
        history: How many earlier x are kept, a whole number from 0 to 100; each takes the memory of the weights.
            Default: 4.
        accept_failures: Whether to fold though some updates could not be used: true or false. Default: true.
        reference: Whose arithmetic to repeat bit for bit: flower-async. Default: none: f64, rounded once.
        staleness_alpha: Only with reference flower-async, whose AsyncFedED is paflm. Default: 0.9.
        num_clients: Only with reference flower-async, whose AsyncFedED is paflm. Default: the round's updates.
        use_staleness: Only with reference flower-async, whose AsyncFedED is paflm. Default: true.
        use_sample_weighing: Only with reference flower-async, whose AsyncFedED is paflm. Default: false.
        total_samples: Only with reference flower-async, whose AsyncFedED is paflm. Default: the round's examples.
        send_gradients: Only with reference flower-async, whose AsyncFedED is paflm. Default: false.
        fedasync_mixing_alpha: Only with reference flower-async, whose AsyncFedED is paflm. Default: 0.9.
        fedasync_a: Only with reference flower-async, whose AsyncFedED is paflm. Default: 0.5.
        server_artificial_delay: Only with reference flower-async, whose AsyncFedED is paflm. Default: false.
        average: Glob patterns of tensors that are averaged and never stepped, separated by spaces or ;. They are
            added to the running statistics. Rules that take no step fold them as all others. Default: running
            statistics, by their names.
        step: Glob patterns of tensors that the rule folds although their names are those of running statistics.
            Default: all that isn't averaged or local.
        local: Glob patterns of tensors that keep the node's own values in a fold. They are published all the same,
            and a node that begins from a fold takes their mean. Default: no tensor.
        integers: Newest: integer and boolean tensors come whole from the newest update; mean: they are averaged by
            the shares of the updates and rounded, halves to even. Default: newest.
    """

    def __init__(
        self,
        *,
        lambda_: Parameter = None,
        epsilon: Parameter = None,
        history: Parameter = None,
        accept_failures: Parameter = None,
        reference: Parameter = None,
        staleness_alpha: Parameter = None,
        num_clients: Parameter = None,
        use_staleness: Parameter = None,
        use_sample_weighing: Parameter = None,
        total_samples: Parameter = None,
        send_gradients: Parameter = None,
        fedasync_mixing_alpha: Parameter = None,
        fedasync_a: Parameter = None,
        server_artificial_delay: Parameter = None,
        average: Parameter = None,
        step: Parameter = None,
        local: Parameter = None,
        integers: Parameter = None,
    ) -> None:
        """The rule with these parameters."""
        super().__init__(
            "asyncfeded",
            **{
                "lambda": lambda_,
                "epsilon": epsilon,
                "history": history,
                "accept_failures": accept_failures,
                "reference": reference,
                "staleness_alpha": staleness_alpha,
                "num_clients": num_clients,
                "use_staleness": use_staleness,
                "use_sample_weighing": use_sample_weighing,
                "total_samples": total_samples,
                "send_gradients": send_gradients,
                "fedasync_mixing_alpha": fedasync_mixing_alpha,
                "fedasync_a": fedasync_a,
                "server_artificial_delay": server_artificial_delay,
                "average": average,
                "step": step,
                "local": local,
                "integers": integers,
            },
        )


class Bulyan(Strategy):
    """n - 2f updates by krum, one after the other; of each coordinate the mean of the n - 4f closest to their
    median.

    From: El Mhamdi et al. 2018, The Hidden Vulnerability of Distributed Learning in Byzantium.

    Args:
        num_malicious_clients: f, how many updates may be an attacker's, a whole number from 0. Default: 0.
        num_malicious_nodes: The same, as Flower's message API calls it. Default: 0.
        to_keep: Flower's, of its krum; only 0. Default: 0.
        accept_failures: Whether to fold though some updates could not be used: true or false. Default: true.
        reference: Whose arithmetic to repeat bit for bit: flwr-1.6, flwr-1.41 or flwr-1.41-message. Default: none:
            sums in f64, rounded once.
        average: Glob patterns of tensors that are averaged and never stepped, separated by spaces or ;. They are
            added to the running statistics. Rules that take no step fold them as all others. Default: running
            statistics, by their names.
        step: Glob patterns of tensors that the rule folds although their names are those of running statistics.
            Default: all that isn't averaged or local.
        local: Glob patterns of tensors that keep the node's own values in a fold. They are published all the same,
            and a node that begins from a fold takes their mean. Default: no tensor.
        integers: Newest: integer and boolean tensors come whole from the newest update; mean: they are averaged by
            the shares of the updates and rounded, halves to even. Default: newest.
    """

    def __init__(
        self,
        *,
        num_malicious_clients: Parameter = None,
        num_malicious_nodes: Parameter = None,
        to_keep: Parameter = None,
        accept_failures: Parameter = None,
        reference: Parameter = None,
        average: Parameter = None,
        step: Parameter = None,
        local: Parameter = None,
        integers: Parameter = None,
    ) -> None:
        """The rule with these parameters."""
        super().__init__(
            "bulyan",
            **{
                "num_malicious_clients": num_malicious_clients,
                "num_malicious_nodes": num_malicious_nodes,
                "to_keep": to_keep,
                "accept_failures": accept_failures,
                "reference": reference,
                "average": average,
                "step": step,
                "local": local,
                "integers": integers,
            },
        )


class CenteredClipping(Strategy):
    """v = x, then v += mean of (w - v)·min(1, tau/‖w - v‖), a few times; not weighted.

    From: Karimireddy et al. 2021, Learning from History for Byzantine Robust Optimization.

    Args:
        tau: τ, a number above 0: no update moves v by more than τ/n in an iteration. Default: 10.
        iterations: How often, a whole number from 1 to 1000. Default: 1.
        accept_failures: Whether to fold though some updates could not be used: true or false. Default: true.
        average: Glob patterns of tensors that are averaged and never stepped, separated by spaces or ;. They are
            added to the running statistics. Rules that take no step fold them as all others. Default: running
            statistics, by their names.
        step: Glob patterns of tensors that the rule folds although their names are those of running statistics.
            Default: all that isn't averaged or local.
        local: Glob patterns of tensors that keep the node's own values in a fold. They are published all the same,
            and a node that begins from a fold takes their mean. Default: no tensor.
        integers: Newest: integer and boolean tensors come whole from the newest update; mean: they are averaged by
            the shares of the updates and rounded, halves to even. Default: newest.
    """

    def __init__(
        self,
        *,
        tau: Parameter = None,
        iterations: Parameter = None,
        accept_failures: Parameter = None,
        average: Parameter = None,
        step: Parameter = None,
        local: Parameter = None,
        integers: Parameter = None,
    ) -> None:
        """The rule with these parameters."""
        super().__init__(
            "centeredclipping",
            **{
                "tau": tau,
                "iterations": iterations,
                "accept_failures": accept_failures,
                "average": average,
                "step": step,
                "local": local,
                "integers": integers,
            },
        )


class DiLoCo(Strategy):
    """Nesterov momentum towards the mean, not weighted: g = x - mean, v = μ·v + g, x -= lr·(g + μ·v).

    From: Douillard et al. 2023, DiLoCo: Distributed Low-Communication Training of Language Models.

    Args:
        outer_learning_rate: Lr, a number above 0. Default: 0.7.
        outer_momentum: μ, a number from 0 to below 1. Default: 0.9.
        accept_failures: Whether to fold though some updates could not be used: true or false. Default: true.
        average: Glob patterns of tensors that are averaged and never stepped, separated by spaces or ;. They are
            added to the running statistics. Rules that take no step fold them as all others. Default: running
            statistics, by their names.
        step: Glob patterns of tensors that the rule folds although their names are those of running statistics.
            Default: all that isn't averaged or local.
        local: Glob patterns of tensors that keep the node's own values in a fold. They are published all the same,
            and a node that begins from a fold takes their mean. Default: no tensor.
        integers: Newest: integer and boolean tensors come whole from the newest update; mean: they are averaged by
            the shares of the updates and rounded, halves to even. Default: newest.
    """

    def __init__(
        self,
        *,
        outer_learning_rate: Parameter = None,
        outer_momentum: Parameter = None,
        accept_failures: Parameter = None,
        average: Parameter = None,
        step: Parameter = None,
        local: Parameter = None,
        integers: Parameter = None,
    ) -> None:
        """The rule with these parameters."""
        super().__init__(
            "diloco",
            **{
                "outer_learning_rate": outer_learning_rate,
                "outer_momentum": outer_momentum,
                "accept_failures": accept_failures,
                "average": average,
                "step": step,
                "local": local,
                "integers": integers,
            },
        )


class DPSGD(Strategy):
    """x_i = Σ W_ij·x_j, W_ij = 1/(1 + max(d_i, d_j)), d the number of peers that a node knows.

    From: Lian et al. 2017, Can Decentralized Algorithms Outperform Centralized Algorithms?; weights: Xiao et al.
    2004.

    Args:
        accept_failures: Whether to fold though some updates could not be used: true or false. Default: true.
        average: Glob patterns of tensors that are averaged and never stepped, separated by spaces or ;. They are
            added to the running statistics. Rules that take no step fold them as all others. Default: running
            statistics, by their names.
        step: Glob patterns of tensors that the rule folds although their names are those of running statistics.
            Default: all that isn't averaged or local.
        local: Glob patterns of tensors that keep the node's own values in a fold. They are published all the same,
            and a node that begins from a fold takes their mean. Default: no tensor.
        integers: Newest: integer and boolean tensors come whole from the newest update; mean: they are averaged by
            the shares of the updates and rounded, halves to even. Default: newest.
    """

    def __init__(
        self,
        *,
        accept_failures: Parameter = None,
        average: Parameter = None,
        step: Parameter = None,
        local: Parameter = None,
        integers: Parameter = None,
    ) -> None:
        """The rule with these parameters."""
        super().__init__(
            "dpsgd",
            **{
                "accept_failures": accept_failures,
                "average": average,
                "step": step,
                "local": local,
                "integers": integers,
            },
        )


class FaultTolerantFedAvg(Strategy):
    """Fedavg if results / (results + failures) is at least a rate, else nothing.

    From: Flower, FaultTolerantFedAvg; McMahan et al. 2017.

    Args:
        min_completion_rate_fit: Share of the updates that must be usable, a number from 0 to 1. Default: 0.5.
        min_completion_rate_evaluate: Flower's, for its evaluation; the fold doesn't use it. Default: 0.5.
        max_share: Most that the examples of one update may count for among all, a number above 0, up to 1; what is
            more is cut. Not with reference. Default: 1.
        accept_failures: Whether to fold though some updates could not be used: true or false. Default: true.
        reference: Whose arithmetic to repeat bit for bit: flwr-1.6, flwr-1.41 or flwr-1.41-message. Default: none:
            sums in f64, rounded once.
        average: Glob patterns of tensors that are averaged and never stepped, separated by spaces or ;. They are
            added to the running statistics. Rules that take no step fold them as all others. Default: running
            statistics, by their names.
        step: Glob patterns of tensors that the rule folds although their names are those of running statistics.
            Default: all that isn't averaged or local.
        local: Glob patterns of tensors that keep the node's own values in a fold. They are published all the same,
            and a node that begins from a fold takes their mean. Default: no tensor.
        integers: Newest: integer and boolean tensors come whole from the newest update; mean: they are averaged by
            the shares of the updates and rounded, halves to even. Default: newest.
    """

    def __init__(
        self,
        *,
        min_completion_rate_fit: Parameter = None,
        min_completion_rate_evaluate: Parameter = None,
        max_share: Parameter = None,
        accept_failures: Parameter = None,
        reference: Parameter = None,
        average: Parameter = None,
        step: Parameter = None,
        local: Parameter = None,
        integers: Parameter = None,
    ) -> None:
        """The rule with these parameters."""
        super().__init__(
            "faulttolerantfedavg",
            **{
                "min_completion_rate_fit": min_completion_rate_fit,
                "min_completion_rate_evaluate": min_completion_rate_evaluate,
                "max_share": max_share,
                "accept_failures": accept_failures,
                "reference": reference,
                "average": average,
                "step": step,
                "local": local,
                "integers": integers,
            },
        )


class FedAdagrad(Strategy):
    """Adagrad towards the mean: δ = mean - x, v += δ², x += eta·δ/(√v + tau).

    From: Reddi et al. 2021, Adaptive Federated Optimization.

    Args:
        eta: The step's learning rate, a number above 0. Default: 0.1.
        eta_l: The learning rate of local training, a number above 0; the fold doesn't use it. Default: 0.1.
        beta_1: Decay of m, which takes δ's place: m = beta_1·m + (1 - beta_1)·δ; a number from 0 to below 1.
            Default: 0.
        tau: Adaptivity, a number from 1e-30: the smaller, the more every step has the same length. Default: 1e-3;
            1e-9 with reference flwr-1.6 or flwr-1.41.
        max_share: Most that the examples of one update may count for among all, a number above 0, up to 1; what is
            more is cut. Not with reference. Default: 1.
        accept_failures: Whether to fold though some updates could not be used: true or false. Default: true.
        reference: Whose arithmetic to repeat bit for bit: flwr-1.6, flwr-1.41 or flwr-1.41-message. Default: none:
            sums in f64, rounded once.
        average: Glob patterns of tensors that are averaged and never stepped, separated by spaces or ;. They are
            added to the running statistics. Rules that take no step fold them as all others. Default: running
            statistics, by their names.
        step: Glob patterns of tensors that the rule folds although their names are those of running statistics.
            Default: all that isn't averaged or local.
        local: Glob patterns of tensors that keep the node's own values in a fold. They are published all the same,
            and a node that begins from a fold takes their mean. Default: no tensor.
        integers: Newest: integer and boolean tensors come whole from the newest update; mean: they are averaged by
            the shares of the updates and rounded, halves to even. Default: newest.
    """

    def __init__(
        self,
        *,
        eta: Parameter = None,
        eta_l: Parameter = None,
        beta_1: Parameter = None,
        tau: Parameter = None,
        max_share: Parameter = None,
        accept_failures: Parameter = None,
        reference: Parameter = None,
        average: Parameter = None,
        step: Parameter = None,
        local: Parameter = None,
        integers: Parameter = None,
    ) -> None:
        """The rule with these parameters."""
        super().__init__(
            "fedadagrad",
            **{
                "eta": eta,
                "eta_l": eta_l,
                "beta_1": beta_1,
                "tau": tau,
                "max_share": max_share,
                "accept_failures": accept_failures,
                "reference": reference,
                "average": average,
                "step": step,
                "local": local,
                "integers": integers,
            },
        )


class FedAdam(Strategy):
    """Adam towards the mean: δ = mean - x, x += eta·m/(√v + tau).

    From: Reddi et al. 2021, Adaptive Federated Optimization.

    Args:
        eta: The step's learning rate, a number above 0. Default: 0.1.
        eta_l: The learning rate of local training, a number above 0; the fold doesn't use it. Default: 0.1.
        beta_1: Decay of m, a number from 0 to below 1. Default: 0.9.
        beta_2: Decay of v, a number from 0 to below 1. Default: 0.99.
        tau: Adaptivity, a number from 1e-30: the smaller, the more every step has the same length. Default: 1e-3;
            1e-9 with reference flwr-1.6 or flwr-1.41.
        max_share: Most that the examples of one update may count for among all, a number above 0, up to 1; what is
            more is cut. Not with reference. Default: 1.
        accept_failures: Whether to fold though some updates could not be used: true or false. Default: true.
        reference: Whose arithmetic to repeat bit for bit: flwr-1.6, flwr-1.41 or flwr-1.41-message. Default: none:
            sums in f64, rounded once.
        average: Glob patterns of tensors that are averaged and never stepped, separated by spaces or ;. They are
            added to the running statistics. Rules that take no step fold them as all others. Default: running
            statistics, by their names.
        step: Glob patterns of tensors that the rule folds although their names are those of running statistics.
            Default: all that isn't averaged or local.
        local: Glob patterns of tensors that keep the node's own values in a fold. They are published all the same,
            and a node that begins from a fold takes their mean. Default: no tensor.
        integers: Newest: integer and boolean tensors come whole from the newest update; mean: they are averaged by
            the shares of the updates and rounded, halves to even. Default: newest.
    """

    def __init__(
        self,
        *,
        eta: Parameter = None,
        eta_l: Parameter = None,
        beta_1: Parameter = None,
        beta_2: Parameter = None,
        tau: Parameter = None,
        max_share: Parameter = None,
        accept_failures: Parameter = None,
        reference: Parameter = None,
        average: Parameter = None,
        step: Parameter = None,
        local: Parameter = None,
        integers: Parameter = None,
    ) -> None:
        """The rule with these parameters."""
        super().__init__(
            "fedadam",
            **{
                "eta": eta,
                "eta_l": eta_l,
                "beta_1": beta_1,
                "beta_2": beta_2,
                "tau": tau,
                "max_share": max_share,
                "accept_failures": accept_failures,
                "reference": reference,
                "average": average,
                "step": step,
                "local": local,
                "integers": integers,
            },
        )


class FedAsync(Strategy):
    """One update after the other: x = (1 - α_t)·x + α_t·w, α_t = α·s(τ).

    From: Xie et al. 2020, Asynchronous Federated Optimization.

    Args:
        fedasync_mixing_alpha: α, a number from 0 to 1: how much a fresh update counts. Default: 0.6; 0.9 with
            reference flower-async.
        use_staleness: Whether stale updates weigh less: true or false. Default: true.
        staleness_function: s(τ): constant is 1, polynomial (τ+1)^-a, hinge 1 up to τ = b, then 1/(a·(τ-b)+1).
            Default: polynomial.
        fedasync_a: a of the polynomial, a number from 0. Default: 0.5.
        hinge_a: a of the hinge, a number from 0. Default: 10.
        hinge_b: b of the hinge, a number from 0. Default: 4.
        use_sample_weighing: Whether the weight is multiplied by n_k / N_total: true or false. Default: false.
        total_samples: N_total of the sample weighing, a number above 0. Default: the round's examples.
        send_gradients: Whether all updates are differences to x, whatever is said of each: true or false. Default:
            false.
        staleness_alpha: Base of paflm's weight; only paflm uses it. Default: 0.9.
        num_clients: Of paflm's weight; only paflm uses it. Default: the round's updates.
        server_artificial_delay: Flower-async's; no rule uses it. Default: false.
        accept_failures: Whether to fold though some updates could not be used: true or false. Default: true.
        reference: Whose arithmetic to repeat bit for bit: flower-async. Default: none: f64, rounded once.
        average: Glob patterns of tensors that are averaged and never stepped, separated by spaces or ;. They are
            added to the running statistics. Rules that take no step fold them as all others. Default: running
            statistics, by their names.
        step: Glob patterns of tensors that the rule folds although their names are those of running statistics.
            Default: all that isn't averaged or local.
        local: Glob patterns of tensors that keep the node's own values in a fold. They are published all the same,
            and a node that begins from a fold takes their mean. Default: no tensor.
        integers: Newest: integer and boolean tensors come whole from the newest update; mean: they are averaged by
            the shares of the updates and rounded, halves to even. Default: newest.
    """

    def __init__(
        self,
        *,
        fedasync_mixing_alpha: Parameter = None,
        use_staleness: Parameter = None,
        staleness_function: Parameter = None,
        fedasync_a: Parameter = None,
        hinge_a: Parameter = None,
        hinge_b: Parameter = None,
        use_sample_weighing: Parameter = None,
        total_samples: Parameter = None,
        send_gradients: Parameter = None,
        staleness_alpha: Parameter = None,
        num_clients: Parameter = None,
        server_artificial_delay: Parameter = None,
        accept_failures: Parameter = None,
        reference: Parameter = None,
        average: Parameter = None,
        step: Parameter = None,
        local: Parameter = None,
        integers: Parameter = None,
    ) -> None:
        """The rule with these parameters."""
        super().__init__(
            "fedasync",
            **{
                "fedasync_mixing_alpha": fedasync_mixing_alpha,
                "use_staleness": use_staleness,
                "staleness_function": staleness_function,
                "fedasync_a": fedasync_a,
                "hinge_a": hinge_a,
                "hinge_b": hinge_b,
                "use_sample_weighing": use_sample_weighing,
                "total_samples": total_samples,
                "send_gradients": send_gradients,
                "staleness_alpha": staleness_alpha,
                "num_clients": num_clients,
                "server_artificial_delay": server_artificial_delay,
                "accept_failures": accept_failures,
                "reference": reference,
                "average": average,
                "step": step,
                "local": local,
                "integers": integers,
            },
        )


class FedAvg(Strategy):
    """Mean of the weights, weighted by examples: Σ n_k·w_k / N.

    From: McMahan et al. 2017, Communication-Efficient Learning of Deep Networks from Decentralized Data.

    Args:
        inplace: Which of Flower's two means to repeat, only with reference flwr-1.41 (flwr-1.6 knows false only).
            Default: true with reference flwr-1.41.
        max_share: Most that the examples of one update may count for among all, a number above 0, up to 1; what is
            more is cut. Not with reference. Default: 1.
        accept_failures: Whether to fold though some updates could not be used: true or false. Default: true.
        reference: Whose arithmetic to repeat bit for bit: flwr-1.6, flwr-1.41 or flwr-1.41-message. Default: none:
            sums in f64, rounded once.
        average: Glob patterns of tensors that are averaged and never stepped, separated by spaces or ;. They are
            added to the running statistics. Rules that take no step fold them as all others. Default: running
            statistics, by their names.
        step: Glob patterns of tensors that the rule folds although their names are those of running statistics.
            Default: all that isn't averaged or local.
        local: Glob patterns of tensors that keep the node's own values in a fold. They are published all the same,
            and a node that begins from a fold takes their mean. Default: no tensor.
        integers: Newest: integer and boolean tensors come whole from the newest update; mean: they are averaged by
            the shares of the updates and rounded, halves to even. Default: newest.
    """

    def __init__(
        self,
        *,
        inplace: Parameter = None,
        max_share: Parameter = None,
        accept_failures: Parameter = None,
        reference: Parameter = None,
        average: Parameter = None,
        step: Parameter = None,
        local: Parameter = None,
        integers: Parameter = None,
    ) -> None:
        """The rule with these parameters."""
        super().__init__(
            "fedavg",
            **{
                "inplace": inplace,
                "max_share": max_share,
                "accept_failures": accept_failures,
                "reference": reference,
                "average": average,
                "step": step,
                "local": local,
                "integers": integers,
            },
        )


class FedAvgM(Strategy):
    """Momentum towards the mean: g = x - mean, m = μ·m + g, x -= lr·m.

    From: Hsu et al. 2019, Measuring the Effects of Non-Identical Data Distribution for Federated Visual
    Classification.

    Args:
        server_learning_rate: Lr, a number above 0; with server_momentum 0, 1 is FedAvg. Default: 1.
        server_momentum: μ, a number from 0 to below 1. Default: 0.
        max_share: Most that the examples of one update may count for among all, a number above 0, up to 1; what is
            more is cut. Not with reference. Default: 1.
        accept_failures: Whether to fold though some updates could not be used: true or false. Default: true.
        reference: Whose arithmetic to repeat bit for bit: flwr-1.6, flwr-1.41 or flwr-1.41-message. Default: none:
            sums in f64, rounded once.
        average: Glob patterns of tensors that are averaged and never stepped, separated by spaces or ;. They are
            added to the running statistics. Rules that take no step fold them as all others. Default: running
            statistics, by their names.
        step: Glob patterns of tensors that the rule folds although their names are those of running statistics.
            Default: all that isn't averaged or local.
        local: Glob patterns of tensors that keep the node's own values in a fold. They are published all the same,
            and a node that begins from a fold takes their mean. Default: no tensor.
        integers: Newest: integer and boolean tensors come whole from the newest update; mean: they are averaged by
            the shares of the updates and rounded, halves to even. Default: newest.
    """

    def __init__(
        self,
        *,
        server_learning_rate: Parameter = None,
        server_momentum: Parameter = None,
        max_share: Parameter = None,
        accept_failures: Parameter = None,
        reference: Parameter = None,
        average: Parameter = None,
        step: Parameter = None,
        local: Parameter = None,
        integers: Parameter = None,
    ) -> None:
        """The rule with these parameters."""
        super().__init__(
            "fedavgm",
            **{
                "server_learning_rate": server_learning_rate,
                "server_momentum": server_momentum,
                "max_share": max_share,
                "accept_failures": accept_failures,
                "reference": reference,
                "average": average,
                "step": step,
                "local": local,
                "integers": integers,
            },
        )


class FedBuff(Strategy):
    """Updates are buffered, and with every K-th x += eta_g/K·Σ s(τ)·(w - x), s = 1/√(1 + τ); until then x stays.

    From: Nguyen et al. 2022, Federated Learning with Buffered Asynchronous Aggregation.

    Args:
        buffer_size: K, a whole number from 1. Default: 10.
        server_learning_rate: Eta_g, a number above 0. Default: 1.
        accept_failures: Whether to fold though some updates could not be used: true or false. Default: true.
        average: Glob patterns of tensors that are averaged and never stepped, separated by spaces or ;. They are
            added to the running statistics. Rules that take no step fold them as all others. Default: running
            statistics, by their names.
        step: Glob patterns of tensors that the rule folds although their names are those of running statistics.
            Default: all that isn't averaged or local.
        local: Glob patterns of tensors that keep the node's own values in a fold. They are published all the same,
            and a node that begins from a fold takes their mean. Default: no tensor.
        integers: Newest: integer and boolean tensors come whole from the newest update; mean: they are averaged by
            the shares of the updates and rounded, halves to even. Default: newest.
    """

    def __init__(
        self,
        *,
        buffer_size: Parameter = None,
        server_learning_rate: Parameter = None,
        accept_failures: Parameter = None,
        average: Parameter = None,
        step: Parameter = None,
        local: Parameter = None,
        integers: Parameter = None,
    ) -> None:
        """The rule with these parameters."""
        super().__init__(
            "fedbuff",
            **{
                "buffer_size": buffer_size,
                "server_learning_rate": server_learning_rate,
                "accept_failures": accept_failures,
                "average": average,
                "step": step,
                "local": local,
                "integers": integers,
            },
        )


class FedMedian(Strategy):
    """Median of each coordinate, of an even number the mean of the two middle ones; not weighted.

    From: Yin et al. 2018, Byzantine-Robust Distributed Learning: Towards Optimal Statistical Rates.

    Args:
        accept_failures: Whether to fold though some updates could not be used: true or false. Default: true.
        reference: Whose arithmetic to repeat bit for bit: flwr-1.6, flwr-1.41 or flwr-1.41-message. Default: none:
            sums in f64, rounded once.
        average: Glob patterns of tensors that are averaged and never stepped, separated by spaces or ;. They are
            added to the running statistics. Rules that take no step fold them as all others. Default: running
            statistics, by their names.
        step: Glob patterns of tensors that the rule folds although their names are those of running statistics.
            Default: all that isn't averaged or local.
        local: Glob patterns of tensors that keep the node's own values in a fold. They are published all the same,
            and a node that begins from a fold takes their mean. Default: no tensor.
        integers: Newest: integer and boolean tensors come whole from the newest update; mean: they are averaged by
            the shares of the updates and rounded, halves to even. Default: newest.
    """

    def __init__(
        self,
        *,
        accept_failures: Parameter = None,
        reference: Parameter = None,
        average: Parameter = None,
        step: Parameter = None,
        local: Parameter = None,
        integers: Parameter = None,
    ) -> None:
        """The rule with these parameters."""
        super().__init__(
            "fedmedian",
            **{
                "accept_failures": accept_failures,
                "reference": reference,
                "average": average,
                "step": step,
                "local": local,
                "integers": integers,
            },
        )


class FedProx(Strategy):
    """Folds as fedavg; local training adds μ/2·‖w - w_start‖² to its loss.

    From: Li et al. 2020, Federated Optimization in Heterogeneous Networks.

    Args:
        proximal_mu: μ of local training, a number from 0; the fold doesn't use it. Default: 0.01.
        inplace: Which of Flower's two means to repeat, only with reference flwr-1.41 (flwr-1.6 knows false only).
            Default: true with reference flwr-1.41.
        max_share: Most that the examples of one update may count for among all, a number above 0, up to 1; what is
            more is cut. Not with reference. Default: 1.
        accept_failures: Whether to fold though some updates could not be used: true or false. Default: true.
        reference: Whose arithmetic to repeat bit for bit: flwr-1.6, flwr-1.41 or flwr-1.41-message. Default: none:
            sums in f64, rounded once.
        average: Glob patterns of tensors that are averaged and never stepped, separated by spaces or ;. They are
            added to the running statistics. Rules that take no step fold them as all others. Default: running
            statistics, by their names.
        step: Glob patterns of tensors that the rule folds although their names are those of running statistics.
            Default: all that isn't averaged or local.
        local: Glob patterns of tensors that keep the node's own values in a fold. They are published all the same,
            and a node that begins from a fold takes their mean. Default: no tensor.
        integers: Newest: integer and boolean tensors come whole from the newest update; mean: they are averaged by
            the shares of the updates and rounded, halves to even. Default: newest.
    """

    def __init__(
        self,
        *,
        proximal_mu: Parameter = None,
        inplace: Parameter = None,
        max_share: Parameter = None,
        accept_failures: Parameter = None,
        reference: Parameter = None,
        average: Parameter = None,
        step: Parameter = None,
        local: Parameter = None,
        integers: Parameter = None,
    ) -> None:
        """The rule with these parameters."""
        super().__init__(
            "fedprox",
            **{
                "proximal_mu": proximal_mu,
                "inplace": inplace,
                "max_share": max_share,
                "accept_failures": accept_failures,
                "reference": reference,
                "average": average,
                "step": step,
                "local": local,
                "integers": integers,
            },
        )


class FedTrimmedAvg(Strategy):
    """Mean of each coordinate without the int(beta·n) lowest and as many highest values; not weighted.

    From: Yin et al. 2018, Byzantine-Robust Distributed Learning: Towards Optimal Statistical Rates.

    Args:
        beta: Share that is cut on each side, a number from 0 to below 0.5; below 1/n nothing is cut. Default: 0.2.
        accept_failures: Whether to fold though some updates could not be used: true or false. Default: true.
        reference: Whose arithmetic to repeat bit for bit: flwr-1.6, flwr-1.41 or flwr-1.41-message. Default: none:
            sums in f64, rounded once.
        average: Glob patterns of tensors that are averaged and never stepped, separated by spaces or ;. They are
            added to the running statistics. Rules that take no step fold them as all others. Default: running
            statistics, by their names.
        step: Glob patterns of tensors that the rule folds although their names are those of running statistics.
            Default: all that isn't averaged or local.
        local: Glob patterns of tensors that keep the node's own values in a fold. They are published all the same,
            and a node that begins from a fold takes their mean. Default: no tensor.
        integers: Newest: integer and boolean tensors come whole from the newest update; mean: they are averaged by
            the shares of the updates and rounded, halves to even. Default: newest.
    """

    def __init__(
        self,
        *,
        beta: Parameter = None,
        accept_failures: Parameter = None,
        reference: Parameter = None,
        average: Parameter = None,
        step: Parameter = None,
        local: Parameter = None,
        integers: Parameter = None,
    ) -> None:
        """The rule with these parameters."""
        super().__init__(
            "fedtrimmedavg",
            **{
                "beta": beta,
                "accept_failures": accept_failures,
                "reference": reference,
                "average": average,
                "step": step,
                "local": local,
                "integers": integers,
            },
        )


class FedYogi(Strategy):
    """Yogi towards the mean: as fedadam, but v -= (1 - beta_2)·δ²·sign(v - δ²).

    From: Reddi et al. 2021, Adaptive Federated Optimization.

    Args:
        eta: The step's learning rate, a number above 0. Default: 0.01.
        eta_l: The learning rate of local training, a number above 0; the fold doesn't use it. Default: 0.0316.
        beta_1: Decay of m, a number from 0 to below 1. Default: 0.9.
        beta_2: Decay of v, a number from 0 to below 1. Default: 0.99.
        tau: Adaptivity, a number from 1e-30: the smaller, the more every step has the same length. Default: 1e-3.
        max_share: Most that the examples of one update may count for among all, a number above 0, up to 1; what is
            more is cut. Not with reference. Default: 1.
        accept_failures: Whether to fold though some updates could not be used: true or false. Default: true.
        reference: Whose arithmetic to repeat bit for bit: flwr-1.6, flwr-1.41 or flwr-1.41-message. Default: none:
            sums in f64, rounded once.
        average: Glob patterns of tensors that are averaged and never stepped, separated by spaces or ;. They are
            added to the running statistics. Rules that take no step fold them as all others. Default: running
            statistics, by their names.
        step: Glob patterns of tensors that the rule folds although their names are those of running statistics.
            Default: all that isn't averaged or local.
        local: Glob patterns of tensors that keep the node's own values in a fold. They are published all the same,
            and a node that begins from a fold takes their mean. Default: no tensor.
        integers: Newest: integer and boolean tensors come whole from the newest update; mean: they are averaged by
            the shares of the updates and rounded, halves to even. Default: newest.
    """

    def __init__(
        self,
        *,
        eta: Parameter = None,
        eta_l: Parameter = None,
        beta_1: Parameter = None,
        beta_2: Parameter = None,
        tau: Parameter = None,
        max_share: Parameter = None,
        accept_failures: Parameter = None,
        reference: Parameter = None,
        average: Parameter = None,
        step: Parameter = None,
        local: Parameter = None,
        integers: Parameter = None,
    ) -> None:
        """The rule with these parameters."""
        super().__init__(
            "fedyogi",
            **{
                "eta": eta,
                "eta_l": eta_l,
                "beta_1": beta_1,
                "beta_2": beta_2,
                "tau": tau,
                "max_share": max_share,
                "accept_failures": accept_failures,
                "reference": reference,
                "average": average,
                "step": step,
                "local": local,
                "integers": integers,
            },
        )


class GeometricMedian(Strategy):
    """The point with the smallest sum of distances to the updates, weighted by examples; smoothed Weiszfeld.

    From: Pillutla et al. 2022, Robust Aggregation for Federated Learning.

    Also found as rfa.

    Args:
        eps: Smoothing, a number above 0: the smallest distance. Default: 1e-5.
        ftol: It ends when the sum of distances changes by less than this share, a number from 0. Default: 1e-10.
        maxiter: Most iterations, a whole number from 1. Default: 100.
        max_share: Most that the examples of one update may count for among all, a number above 0, up to 1; what is
            more is cut. Not with reference. Default: 1.
        accept_failures: Whether to fold though some updates could not be used: true or false. Default: true.
        average: Glob patterns of tensors that are averaged and never stepped, separated by spaces or ;. They are
            added to the running statistics. Rules that take no step fold them as all others. Default: running
            statistics, by their names.
        step: Glob patterns of tensors that the rule folds although their names are those of running statistics.
            Default: all that isn't averaged or local.
        local: Glob patterns of tensors that keep the node's own values in a fold. They are published all the same,
            and a node that begins from a fold takes their mean. Default: no tensor.
        integers: Newest: integer and boolean tensors come whole from the newest update; mean: they are averaged by
            the shares of the updates and rounded, halves to even. Default: newest.
    """

    def __init__(
        self,
        *,
        eps: Parameter = None,
        ftol: Parameter = None,
        maxiter: Parameter = None,
        max_share: Parameter = None,
        accept_failures: Parameter = None,
        average: Parameter = None,
        step: Parameter = None,
        local: Parameter = None,
        integers: Parameter = None,
    ) -> None:
        """The rule with these parameters."""
        super().__init__(
            "geometricmedian",
            **{
                "eps": eps,
                "ftol": ftol,
                "maxiter": maxiter,
                "max_share": max_share,
                "accept_failures": accept_failures,
                "average": average,
                "step": step,
                "local": local,
                "integers": integers,
            },
        )


class Gossip(Strategy):
    """The mean of the own update and one other's: in each epoch the pairs of a round-robin tournament.

    From: Boyd et al. 2006, Randomized Gossip Algorithms.

    Also found as gossippair.

    Args:
        accept_failures: Whether to fold though some updates could not be used: true or false. Default: true.
        average: Glob patterns of tensors that are averaged and never stepped, separated by spaces or ;. They are
            added to the running statistics. Rules that take no step fold them as all others. Default: running
            statistics, by their names.
        step: Glob patterns of tensors that the rule folds although their names are those of running statistics.
            Default: all that isn't averaged or local.
        local: Glob patterns of tensors that keep the node's own values in a fold. They are published all the same,
            and a node that begins from a fold takes their mean. Default: no tensor.
        integers: Newest: integer and boolean tensors come whole from the newest update; mean: they are averaged by
            the shares of the updates and rounded, halves to even. Default: newest.
    """

    def __init__(
        self,
        *,
        accept_failures: Parameter = None,
        average: Parameter = None,
        step: Parameter = None,
        local: Parameter = None,
        integers: Parameter = None,
    ) -> None:
        """The rule with these parameters."""
        super().__init__(
            "gossip",
            **{
                "accept_failures": accept_failures,
                "average": average,
                "step": step,
                "local": local,
                "integers": integers,
            },
        )


class Krum(Strategy):
    """The update with the lowest sum of squared distances to its n - f - 2 closest others.

    From: Blanchard et al. 2017, Machine Learning with Adversaries: Byzantine Tolerant Gradient Descent.

    Args:
        num_malicious_clients: f, how many updates may be an attacker's, a whole number from 0. Default: 0.
        num_malicious_nodes: The same, as Flower's message API calls it. Default: 0.
        num_clients_to_keep: Above 0: the mean, weighted by examples, of so many of the best (Multi-Krum). Default:
            0.
        max_share: Most that the examples of one update may count for among all, a number above 0, up to 1; what is
            more is cut. Not with reference. Default: 1.
        accept_failures: Whether to fold though some updates could not be used: true or false. Default: true.
        reference: Whose arithmetic to repeat bit for bit: flwr-1.6, flwr-1.41 or flwr-1.41-message. Default: none:
            sums in f64, rounded once.
        average: Glob patterns of tensors that are averaged and never stepped, separated by spaces or ;. They are
            added to the running statistics. Rules that take no step fold them as all others. Default: running
            statistics, by their names.
        step: Glob patterns of tensors that the rule folds although their names are those of running statistics.
            Default: all that isn't averaged or local.
        local: Glob patterns of tensors that keep the node's own values in a fold. They are published all the same,
            and a node that begins from a fold takes their mean. Default: no tensor.
        integers: Newest: integer and boolean tensors come whole from the newest update; mean: they are averaged by
            the shares of the updates and rounded, halves to even. Default: newest.
    """

    def __init__(
        self,
        *,
        num_malicious_clients: Parameter = None,
        num_malicious_nodes: Parameter = None,
        num_clients_to_keep: Parameter = None,
        max_share: Parameter = None,
        accept_failures: Parameter = None,
        reference: Parameter = None,
        average: Parameter = None,
        step: Parameter = None,
        local: Parameter = None,
        integers: Parameter = None,
    ) -> None:
        """The rule with these parameters."""
        super().__init__(
            "krum",
            **{
                "num_malicious_clients": num_malicious_clients,
                "num_malicious_nodes": num_malicious_nodes,
                "num_clients_to_keep": num_clients_to_keep,
                "max_share": max_share,
                "accept_failures": accept_failures,
                "reference": reference,
                "average": average,
                "step": step,
                "local": local,
                "integers": integers,
            },
        )


class MultiKrum(Strategy):
    """Mean, weighted by examples, of the updates with the lowest scores of krum.

    From: Blanchard et al. 2017, Machine Learning with Adversaries: Byzantine Tolerant Gradient Descent.

    Args:
        num_malicious_clients: f, how many updates may be an attacker's, a whole number from 0. Default: 0.
        num_malicious_nodes: The same, as Flower's message API calls it. Default: 0.
        num_nodes_to_select: How many of the best, a whole number from 1; more than there are: all. Default: 1.
        max_share: Most that the examples of one update may count for among all, a number above 0, up to 1; what is
            more is cut. Not with reference. Default: 1.
        accept_failures: Whether to fold though some updates could not be used: true or false. Default: true.
        reference: Whose arithmetic to repeat bit for bit: flwr-1.6, flwr-1.41 or flwr-1.41-message. Default: none:
            sums in f64, rounded once.
        average: Glob patterns of tensors that are averaged and never stepped, separated by spaces or ;. They are
            added to the running statistics. Rules that take no step fold them as all others. Default: running
            statistics, by their names.
        step: Glob patterns of tensors that the rule folds although their names are those of running statistics.
            Default: all that isn't averaged or local.
        local: Glob patterns of tensors that keep the node's own values in a fold. They are published all the same,
            and a node that begins from a fold takes their mean. Default: no tensor.
        integers: Newest: integer and boolean tensors come whole from the newest update; mean: they are averaged by
            the shares of the updates and rounded, halves to even. Default: newest.
    """

    def __init__(
        self,
        *,
        num_malicious_clients: Parameter = None,
        num_malicious_nodes: Parameter = None,
        num_nodes_to_select: Parameter = None,
        max_share: Parameter = None,
        accept_failures: Parameter = None,
        reference: Parameter = None,
        average: Parameter = None,
        step: Parameter = None,
        local: Parameter = None,
        integers: Parameter = None,
    ) -> None:
        """The rule with these parameters."""
        super().__init__(
            "multikrum",
            **{
                "num_malicious_clients": num_malicious_clients,
                "num_malicious_nodes": num_malicious_nodes,
                "num_nodes_to_select": num_nodes_to_select,
                "max_share": max_share,
                "accept_failures": accept_failures,
                "reference": reference,
                "average": average,
                "step": step,
                "local": local,
                "integers": integers,
            },
        )


class NormBound(Strategy):
    """x plus the mean, weighted by examples, of Δ·min(1, M/‖Δ‖), Δ = w - x.

    From: Sun et al. 2019, Can You Really Backdoor Federated Learning?.

    Args:
        norm_bound: M, a number above 0: no update moves x by more than its share of it. Default: 10.
        max_share: Most that the examples of one update may count for among all, a number above 0, up to 1; what is
            more is cut. Not with reference. Default: 1.
        accept_failures: Whether to fold though some updates could not be used: true or false. Default: true.
        average: Glob patterns of tensors that are averaged and never stepped, separated by spaces or ;. They are
            added to the running statistics. Rules that take no step fold them as all others. Default: running
            statistics, by their names.
        step: Glob patterns of tensors that the rule folds although their names are those of running statistics.
            Default: all that isn't averaged or local.
        local: Glob patterns of tensors that keep the node's own values in a fold. They are published all the same,
            and a node that begins from a fold takes their mean. Default: no tensor.
        integers: Newest: integer and boolean tensors come whole from the newest update; mean: they are averaged by
            the shares of the updates and rounded, halves to even. Default: newest.
    """

    def __init__(
        self,
        *,
        norm_bound: Parameter = None,
        max_share: Parameter = None,
        accept_failures: Parameter = None,
        average: Parameter = None,
        step: Parameter = None,
        local: Parameter = None,
        integers: Parameter = None,
    ) -> None:
        """The rule with these parameters."""
        super().__init__(
            "normbound",
            **{
                "norm_bound": norm_bound,
                "max_share": max_share,
                "accept_failures": accept_failures,
                "average": average,
                "step": step,
                "local": local,
                "integers": integers,
            },
        )


class PAFLM(Strategy):
    """One update after the other: x += η·(w - x), η = staleness_alpha^(τ/num_clients - 1); flower-async calls it
    AsyncFedED.

    From: Lu et al. 2020, Privacy-Preserving Asynchronous Federated Learning Mechanism for Edge Network Computing.

    Also found as asyncfededpaflm.

    Args:
        staleness_alpha: Base of the weight, a number above 0. Default: 0.9.
        num_clients: How many clients τ is counted against, a number above 0. Default: the round's updates.
        use_staleness: Whether stale updates weigh less: true or false. Default: true.
        use_sample_weighing: Whether the weight is multiplied by n_k / N_total: true or false. Default: false.
        total_samples: N_total of the sample weighing, a number above 0. Default: the round's examples.
        send_gradients: Whether all updates are differences to x, whatever is said of each: true or false. Default:
            false.
        fedasync_mixing_alpha: α of fedasync; only fedasync uses it. Default: 0.9.
        fedasync_a: a of fedasync's polynomial staleness; only fedasync uses it. Default: 0.5.
        server_artificial_delay: Flower-async's; no rule uses it. Default: false.
        accept_failures: Whether to fold though some updates could not be used: true or false. Default: true.
        reference: Whose arithmetic to repeat bit for bit: flower-async. Default: none: f64, rounded once.
        average: Glob patterns of tensors that are averaged and never stepped, separated by spaces or ;. They are
            added to the running statistics. Rules that take no step fold them as all others. Default: running
            statistics, by their names.
        step: Glob patterns of tensors that the rule folds although their names are those of running statistics.
            Default: all that isn't averaged or local.
        local: Glob patterns of tensors that keep the node's own values in a fold. They are published all the same,
            and a node that begins from a fold takes their mean. Default: no tensor.
        integers: Newest: integer and boolean tensors come whole from the newest update; mean: they are averaged by
            the shares of the updates and rounded, halves to even. Default: newest.
    """

    def __init__(
        self,
        *,
        staleness_alpha: Parameter = None,
        num_clients: Parameter = None,
        use_staleness: Parameter = None,
        use_sample_weighing: Parameter = None,
        total_samples: Parameter = None,
        send_gradients: Parameter = None,
        fedasync_mixing_alpha: Parameter = None,
        fedasync_a: Parameter = None,
        server_artificial_delay: Parameter = None,
        accept_failures: Parameter = None,
        reference: Parameter = None,
        average: Parameter = None,
        step: Parameter = None,
        local: Parameter = None,
        integers: Parameter = None,
    ) -> None:
        """The rule with these parameters."""
        super().__init__(
            "paflm",
            **{
                "staleness_alpha": staleness_alpha,
                "num_clients": num_clients,
                "use_staleness": use_staleness,
                "use_sample_weighing": use_sample_weighing,
                "total_samples": total_samples,
                "send_gradients": send_gradients,
                "fedasync_mixing_alpha": fedasync_mixing_alpha,
                "fedasync_a": fedasync_a,
                "server_artificial_delay": server_artificial_delay,
                "accept_failures": accept_failures,
                "reference": reference,
                "average": average,
                "step": step,
                "local": local,
                "integers": integers,
            },
        )


class Port(Strategy):
    """Mean with weights n_k/N·(a·(1 + cos θ)/2 + b·S/(S + τ)), θ between an update's move and the last one of x.

    From: Su and Li 2022, How Asynchronous can Federated Learning Be?.

    Args:
        staleness_bound: S, a number above 0. Default: 10.
        similarity_weight: a, a number from 0. Default: 1.
        staleness_weight: b, a number above 0. Default: 1.
        max_share: Most that the examples of one update may count for among all, a number above 0, up to 1; what is
            more is cut. Not with reference. Default: 1.
        accept_failures: Whether to fold though some updates could not be used: true or false. Default: true.
        average: Glob patterns of tensors that are averaged and never stepped, separated by spaces or ;. They are
            added to the running statistics. Rules that take no step fold them as all others. Default: running
            statistics, by their names.
        step: Glob patterns of tensors that the rule folds although their names are those of running statistics.
            Default: all that isn't averaged or local.
        local: Glob patterns of tensors that keep the node's own values in a fold. They are published all the same,
            and a node that begins from a fold takes their mean. Default: no tensor.
        integers: Newest: integer and boolean tensors come whole from the newest update; mean: they are averaged by
            the shares of the updates and rounded, halves to even. Default: newest.
    """

    def __init__(
        self,
        *,
        staleness_bound: Parameter = None,
        similarity_weight: Parameter = None,
        staleness_weight: Parameter = None,
        max_share: Parameter = None,
        accept_failures: Parameter = None,
        average: Parameter = None,
        step: Parameter = None,
        local: Parameter = None,
        integers: Parameter = None,
    ) -> None:
        """The rule with these parameters."""
        super().__init__(
            "port",
            **{
                "staleness_bound": staleness_bound,
                "similarity_weight": similarity_weight,
                "staleness_weight": staleness_weight,
                "max_share": max_share,
                "accept_failures": accept_failures,
                "average": average,
                "step": step,
                "local": local,
                "integers": integers,
            },
        )


class QFedAvg(Strategy):
    """Steps towards the updates, the longer the higher their loss: x -= ΣΔ / Σh.

    From: Li et al. 2020, Fair Resource Allocation in Federated Learning.

    Args:
        q_param: q, a number from 0: the higher, the more a high loss counts. Default: 0.2; 0.1 with reference
            flwr-1.41-message.
        q: The same, as Flower's message API calls it. Default: that of q_param.
        qffl_learning_rate: 1/L, the learning rate of local training, a number above 0. Default: 0.1.
        client_learning_rate: The same, as Flower's message API calls it. Default: 0.1.
        accept_failures: Whether to fold though some updates could not be used: true or false. Default: true.
        reference: Whose arithmetic to repeat bit for bit: flwr-1.6, flwr-1.41 or flwr-1.41-message. Default: none:
            sums in f64, rounded once.
        average: Glob patterns of tensors that are averaged and never stepped, separated by spaces or ;. They are
            added to the running statistics. Rules that take no step fold them as all others. Default: running
            statistics, by their names.
        step: Glob patterns of tensors that the rule folds although their names are those of running statistics.
            Default: all that isn't averaged or local.
        local: Glob patterns of tensors that keep the node's own values in a fold. They are published all the same,
            and a node that begins from a fold takes their mean. Default: no tensor.
        integers: Newest: integer and boolean tensors come whole from the newest update; mean: they are averaged by
            the shares of the updates and rounded, halves to even. Default: newest.
    """

    def __init__(
        self,
        *,
        q_param: Parameter = None,
        q: Parameter = None,
        qffl_learning_rate: Parameter = None,
        client_learning_rate: Parameter = None,
        accept_failures: Parameter = None,
        reference: Parameter = None,
        average: Parameter = None,
        step: Parameter = None,
        local: Parameter = None,
        integers: Parameter = None,
    ) -> None:
        """The rule with these parameters."""
        super().__init__(
            "qfedavg",
            **{
                "q_param": q_param,
                "q": q,
                "qffl_learning_rate": qffl_learning_rate,
                "client_learning_rate": client_learning_rate,
                "accept_failures": accept_failures,
                "reference": reference,
                "average": average,
                "step": step,
                "local": local,
                "integers": integers,
            },
        )


class SAFA(Strategy):
    """Mean, weighted by examples, of everybody's newest weights, also of those who are missing; x for those who are
    out of date.

    From: Wu et al. 2021, SAFA: A Semi-Asynchronous Protocol for Fast Federated Learning with Low Overhead.

    Args:
        lag_tolerance: τ, a whole number from 0: whose newest weights are older than this many folds counts with x.
            Default: 5.
        max_share: Most that the examples of one update may count for among all, a number above 0, up to 1; what is
            more is cut. Not with reference. Default: 1.
        accept_failures: Whether to fold though some updates could not be used: true or false. Default: true.
        average: Glob patterns of tensors that are averaged and never stepped, separated by spaces or ;. They are
            added to the running statistics. Rules that take no step fold them as all others. Default: running
            statistics, by their names.
        step: Glob patterns of tensors that the rule folds although their names are those of running statistics.
            Default: all that isn't averaged or local.
        local: Glob patterns of tensors that keep the node's own values in a fold. They are published all the same,
            and a node that begins from a fold takes their mean. Default: no tensor.
        integers: Newest: integer and boolean tensors come whole from the newest update; mean: they are averaged by
            the shares of the updates and rounded, halves to even. Default: newest.
    """

    def __init__(
        self,
        *,
        lag_tolerance: Parameter = None,
        max_share: Parameter = None,
        accept_failures: Parameter = None,
        average: Parameter = None,
        step: Parameter = None,
        local: Parameter = None,
        integers: Parameter = None,
    ) -> None:
        """The rule with these parameters."""
        super().__init__(
            "safa",
            **{
                "lag_tolerance": lag_tolerance,
                "max_share": max_share,
                "accept_failures": accept_failures,
                "average": average,
                "step": step,
                "local": local,
                "integers": integers,
            },
        )


class Unweighted(Strategy):
    """One update after the other: x = (x + w)/2.

    From: flower-async.

    Args:
        send_gradients: Whether all updates are differences to x, whatever is said of each: true or false. Default:
            false.
        use_staleness: Flower-async's; this rule doesn't use it. Default: true.
        use_sample_weighing: Flower-async's; this rule doesn't use it. Default: false.
        total_samples: Flower-async's; this rule doesn't use it. Default: the round's examples.
        staleness_alpha: Base of paflm's weight; only paflm uses it. Default: 0.9.
        num_clients: Of paflm's weight; only paflm uses it. Default: the round's updates.
        fedasync_mixing_alpha: α of fedasync; only fedasync uses it. Default: 0.9.
        fedasync_a: a of fedasync's polynomial staleness; only fedasync uses it. Default: 0.5.
        server_artificial_delay: Flower-async's; no rule uses it. Default: false.
        accept_failures: Whether to fold though some updates could not be used: true or false. Default: true.
        reference: Whose arithmetic to repeat bit for bit: flower-async. Default: none: f64, rounded once.
        average: Glob patterns of tensors that are averaged and never stepped, separated by spaces or ;. They are
            added to the running statistics. Rules that take no step fold them as all others. Default: running
            statistics, by their names.
        step: Glob patterns of tensors that the rule folds although their names are those of running statistics.
            Default: all that isn't averaged or local.
        local: Glob patterns of tensors that keep the node's own values in a fold. They are published all the same,
            and a node that begins from a fold takes their mean. Default: no tensor.
        integers: Newest: integer and boolean tensors come whole from the newest update; mean: they are averaged by
            the shares of the updates and rounded, halves to even. Default: newest.
    """

    def __init__(
        self,
        *,
        send_gradients: Parameter = None,
        use_staleness: Parameter = None,
        use_sample_weighing: Parameter = None,
        total_samples: Parameter = None,
        staleness_alpha: Parameter = None,
        num_clients: Parameter = None,
        fedasync_mixing_alpha: Parameter = None,
        fedasync_a: Parameter = None,
        server_artificial_delay: Parameter = None,
        accept_failures: Parameter = None,
        reference: Parameter = None,
        average: Parameter = None,
        step: Parameter = None,
        local: Parameter = None,
        integers: Parameter = None,
    ) -> None:
        """The rule with these parameters."""
        super().__init__(
            "unweighted",
            **{
                "send_gradients": send_gradients,
                "use_staleness": use_staleness,
                "use_sample_weighing": use_sample_weighing,
                "total_samples": total_samples,
                "staleness_alpha": staleness_alpha,
                "num_clients": num_clients,
                "fedasync_mixing_alpha": fedasync_mixing_alpha,
                "fedasync_a": fedasync_a,
                "server_artificial_delay": server_artificial_delay,
                "accept_failures": accept_failures,
                "reference": reference,
                "average": average,
                "step": step,
                "local": local,
                "integers": integers,
            },
        )


__all__ = [
    "AsoFed",
    "AsyncFedED",
    "Bulyan",
    "CenteredClipping",
    "DPSGD",
    "DiLoCo",
    "FaultTolerantFedAvg",
    "FedAdagrad",
    "FedAdam",
    "FedAsync",
    "FedAvg",
    "FedAvgM",
    "FedBuff",
    "FedMedian",
    "FedProx",
    "FedTrimmedAvg",
    "FedYogi",
    "GeometricMedian",
    "Gossip",
    "Krum",
    "MultiKrum",
    "NormBound",
    "PAFLM",
    "Port",
    "QFedAvg",
    "SAFA",
    "Unweighted",
]

#: All of them, by the registry's names.
BY_NAME: dict[str, type[Strategy]] = {
    "asofed": AsoFed,
    "asyncfeded": AsyncFedED,
    "bulyan": Bulyan,
    "centeredclipping": CenteredClipping,
    "diloco": DiLoCo,
    "dpsgd": DPSGD,
    "faulttolerantfedavg": FaultTolerantFedAvg,
    "fedadagrad": FedAdagrad,
    "fedadam": FedAdam,
    "fedasync": FedAsync,
    "fedavg": FedAvg,
    "fedavgm": FedAvgM,
    "fedbuff": FedBuff,
    "fedmedian": FedMedian,
    "fedprox": FedProx,
    "fedtrimmedavg": FedTrimmedAvg,
    "fedyogi": FedYogi,
    "geometricmedian": GeometricMedian,
    "gossip": Gossip,
    "krum": Krum,
    "multikrum": MultiKrum,
    "normbound": NormBound,
    "paflm": PAFLM,
    "port": Port,
    "qfedavg": QFedAvg,
    "safa": SAFA,
    "unweighted": Unweighted,
}
