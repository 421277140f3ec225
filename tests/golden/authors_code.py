"""Writes authors_code.json: what the public code of paper A's authors computes, with weights that a test can remake.

Their code (github.com/Masseeh/EmotiW19) is not part of this project. It was run from two of its commits, the last one
and the first, which logs the run behind the paper's number:

    git clone https://github.com/Masseeh/EmotiW19 last && git -C last checkout 91efa4a7e9abb57fdb46b5a21727190c3ecd6b14
    git clone last first && git -C first checkout 02756708d933c1385f984e0cea672634f648579f
    python3.11 -m venv torch_venv && torch_venv/bin/pip install torch==2.13.0 torchvision==0.28.0
    torch_venv/bin/python tests/golden/authors_code.py last first

`Tensor.cuda` returns the tensor, so that a CPU will do, and no file of weights is loaded. All weights and faces are
drawn by `draw` and `draw_faces` below, from NumPy's RandomState, whose numbers never change. torchvision's VGG16 and
transforms need none of its compiled operators.
"""

import contextlib
import importlib
import io
import itertools
import json
import platform
import sys
import tempfile
from pathlib import Path

import numpy as np

CLIPS, BATCH, DECAY = 773, 3, 5e-4  # AFEW's training clips; their batch and weight decay
FACE, FRAMES, HEADS, CLASSES = 64, 2, 2, 7
STEPS = [0, 1, 129, 257]  # of the 258 batches of an epoch
SHOWN = 6  # channels of a head that are written

# Name → folder (0 the last commit, 1 the first) and arguments of their network.
NETWORKS = {
    "authors_code": (0, {"shift": False}),
    "authors_code_shift": (0, {"shift": True}),
    "authors_first": (1, {"shift": False}),
}


def draw(seed, name, shape):
    """Returns the float32 weights of a name: U(±√(6 / inputs)), which keeps a ReLU's variance, and U(±0.1) for biases.

    `shape` is PyTorch's: outputs, inputs and the kernel's sides.
    """
    numbers = np.random.RandomState([seed, *name.encode()]).random_sample(shape)
    limit = 0.1 if len(shape) == 1 else (6 / np.prod(shape[1:])) ** 0.5
    return ((2 * numbers - 1) * limit).astype("float32")


def draw_faces(seed):
    """Returns pixels, uint8 (FRAMES, FACE, FACE, 3), RGB; red is bright and blue is dark, so that their order tells."""
    numbers = np.random.RandomState(seed).randint(0, 156, (FRAMES, FACE, FACE, 3))
    return (numbers + [100, 50, 0]).astype("uint8")


def load(folder, name):
    """Returns a module of a folder; those of the other folder, of the same names, are forgotten before."""
    for loaded in [key for key in sys.modules if key.split(".")[0] in ("models", "util", "advanced", "video_dataset")]:
        del sys.modules[loaded]
    sys.path.insert(0, str(folder))
    try:
        return importlib.import_module(name)
    finally:
        sys.path.remove(str(folder))


def run_network(folder, seed, shift):
    import torch

    models, layers = load(folder, "models"), sys.modules["advanced.layers"]
    with contextlib.redirect_stdout(io.StringIO()):
        net = models.Attentive_VGG(CLASSES, attention_hop=HEADS, shift=shift).eval()
    state = net.state_dict()
    seeds = {name: 0 if name.startswith("features") else seed for name in state}  # one backbone for all
    net.load_state_dict({name: torch.from_numpy(draw(seeds[name], name, v.shape)) for name, v in state.items()})
    faces = torch.from_numpy(draw_faces(seed).astype("float32") / 255).permute(0, 3, 1, 2)[None]  # (1, F, C, H, W)
    pooled = []
    net.linear.register_forward_hook(lambda module, inputs, output: pooled.append(output))
    with torch.no_grad():
        features = net.features(faces[0])  # (F, D, h, w)
        log_probabilities, attention, joint = net(faces)
        loss = layers.RegularizedLoss(C=1.0)
        total = loss([log_probabilities, attention], torch.tensor([3]))
    # The first commit puts the heads of a channel side by side, the last one the channels of a head.
    is_head_first = "attention.attentions.2.weight" not in state
    pooled = pooled[-1].reshape(FRAMES, HEADS, 512) if is_head_first else pooled[-1].reshape(FRAMES, 512, HEADS).mT
    if attention.shape[1] != HEADS:  # SHIFT of the last commit does not turn its map
        attention = attention.permute(0, 2, 1)
    return {
        "seed": seed,
        "shift": shift,
        "head_first": is_head_first,
        "shapes": {name: list(v.shape) for name, v in state.items() if not name.startswith("features")},
        "features": rounded(features.permute(0, 2, 3, 1).reshape(FRAMES, -1, 512)[..., :SHOWN]),
        "attention": rounded(attention),
        "pooled": rounded(pooled[..., :SHOWN]),
        "log_probabilities": rounded(log_probabilities[0]),
        "joint": rounded(joint[0]),
        **({} if shift else {"penalty": float(loss.loss2), "loss_of_class_3": float(total)}),
    }


def run_schedule(folder, period, epochs):
    """Returns the rate and decay of some steps, with a rate of 1, and the sum of rate · decay over all steps."""
    import torch

    scheduler = load(folder, "advanced.cosine_scheduler")
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0, weight_decay=DECAY, momentum=0.9)
    schedule = scheduler.CosineLRWithRestarts(optimizer, BATCH, CLIPS, restart_period=period, t_mult=2)
    rows, total, batches = [], 0.0, -(-CLIPS // BATCH)
    for epoch in range(epochs):
        schedule.step()
        for step in range(batches):
            group = optimizer.param_groups[0]
            total += group["lr"] * group["weight_decay"]
            if step in STEPS:
                rows.append([epoch, step, group["lr"], group["weight_decay"]])
            schedule.batch_step()
    return {
        "clips": CLIPS,
        "batch": BATCH,
        "batches_an_epoch": batches,
        "period": period,
        "epochs": epochs,
        "columns": ["epoch", "step", "rate", "weight decay"],
        "steps": rows,
        "sum_of_rate_times_decay": total,
    }


def run_optimizer(folder):
    """Returns two weights after each step of their SGD and schedule, to the end of a period.

    The gradient of a weight is the weight. Nine clips in batches of three are three steps an epoch; a period is two
    epochs.
    """
    import torch

    scheduler = load(folder, "advanced.cosine_scheduler")
    weights = torch.nn.Parameter(torch.tensor([1.0, -2.0], dtype=torch.float64))
    optimizer = torch.optim.SGD([weights], lr=0.1, weight_decay=0.5, momentum=0.9, nesterov=True)
    schedule = scheduler.CosineLRWithRestarts(optimizer, 3, 9, restart_period=2, t_mult=2)
    rows = []
    for _ in range(2):
        schedule.step()
        for _ in range(3):
            optimizer.zero_grad()
            (weights**2 / 2).sum().backward()
            optimizer.step()
            rows.append(rounded(weights.detach()))
            schedule.batch_step()
    return {
        "weight_decay": 0.5 * (3 / (9 * 2)) ** 0.5,
        "rate": 0.1,
        "momentum": 0.9,
        "period": 2,
        "batches_an_epoch": 3,
        "start": [1.0, -2.0],
        "weights": rows,
    }


def run_frames(folder):
    """Returns which frames of a clip are evaluated, of those that are not all."""
    from PIL import Image

    dataset = load(folder, "video_dataset")
    frames = {}
    for total in (121, 175, 240, 1000):
        names = [Path("Happy") / "clip" / f"{n}.jpg" for n in range(total)]
        clip = dataset.AFEWDataset(names, ["Happy"] * total, is_training=False)
        frames[str(total)] = [int(name.stem) for name in clip.read_select_frames(0)]
    face = draw_faces(0)[0, :12, :12]
    view = dataset.transforms.functional.rotate
    return {
        "evaluated": frames,
        "turned": {str(angle): np.asarray(view(Image.fromarray(face), angle)).tolist() for angle in (-10, 7)},
    }


def run_loader(folder):
    """Returns how their loaders read seven clips of five frames of 256 × 256 pixels."""
    from PIL import Image

    dataset = load(folder, "video_dataset")
    classes = ("Angry", "Disgust", "Fear", "Happy", "Neutral", "Sad", "Surprise")
    with tempfile.TemporaryDirectory() as root:
        for part, name in itertools.product(("Train", "Valid"), classes):
            clip = Path(root, part, name, f"clip_{name}")
            clip.mkdir(parents=True)
            for frame in range(5):
                Image.new("RGB", (256, 256)).save(clip / f"{frame}.jpg")
        training, evaluation = dataset.image_data(
            root, num_workers=0, size=224, num_frames_per_clip=16, bs=3, eval_fact=40
        )
        shapes = [list(clips.shape) for clips, _ in training]
    crop, rotation, flip, _ = training.dataset.trasform.transform.transforms
    return {
        "training_shapes": shapes,
        "crop": list(crop.size),
        "rotation_deg": list(rotation.degrees),
        "rotation_fill": rotation.fill,
        "rotation_interpolation": rotation.interpolation.value,
        "flip": flip.p,
        "most_evaluated_frames": evaluation.dataset.max_len,
        "classes": training.dataset.classes,
    }


def read_experiment(folder, name):
    """Returns the settings that they log of a run."""
    experiment = json.loads((folder / "experiments.json").read_text())[name]
    kept = ("base_lr", "lrs", "wd", "opt", "shift", "pooling", "attention_hop", "dropout", "ep", "C", "status")
    return {key: experiment[key] for key in kept if key in experiment}


def run_initial_weights(folder):
    """Returns the range of kernels and biases as they are created, and the deviation of SHIFT's w and b."""
    import torch

    models, layers = load(folder, "models"), sys.modules["advanced.layers"]
    torch.manual_seed(0)
    with contextlib.redirect_stdout(io.StringIO()):
        net = models.Attentive_VGG(CLASSES, attention_hop=HEADS)
    kept = {name: v for name, v in net.state_dict().items() if name.split(".")[0] in ("attention", "classifier")}
    drawn = torch.cat([layers.glorot_normal((HEADS,)) for _ in range(20000)])
    kernels = {name: v for name, v in kept.items() if name not in ("attention.w", "attention.b")}
    return {
        "largest": {name: float(v.abs().max()) for name, v in kernels.items()},
        "deviation": {name: float(v.std()) for name, v in kernels.items()},
        "shift_deviation": float(drawn.std()),
    }


def rounded(values):
    return np.asarray(values, dtype="float64").round(9).tolist()


def main(folders):
    import torch
    import torchvision

    torch.Tensor.cuda = lambda tensor: tensor
    golden = {
        "versions": {
            "torch": torch.__version__,
            "torchvision": torchvision.__version__,
            "numpy": np.__version__,
            "python": platform.python_version(),
        },
        "faces": {"size": FACE, "frames": FRAMES, "heads": HEADS, "classes": CLASSES, "shown": SHOWN},
        "networks": {
            name: run_network(folders[which], seed, **arguments)
            for seed, (name, (which, arguments)) in enumerate(NETWORKS.items(), start=1)
        },
        "schedules": {
            "authors_code": run_schedule(folders[0], 10, 30),
            "authors_first": run_schedule(folders[1], 5, 30),
        },
        "optimizer": run_optimizer(folders[0]),
        "experiments": {
            "authors_code": read_experiment(folders[0], "paper_master_att"),
            "authors_first": read_experiment(folders[1], "paper_master"),
        },
        "loader": run_loader(folders[0]),
        "views": run_frames(folders[0]),
        "initial_weights": {
            "authors_code": run_initial_weights(folders[0]),
            "authors_first": run_initial_weights(folders[1]),
        },
    }
    Path(__file__).with_suffix(".json").write_text(dump(golden) + "\n", encoding="utf-8")


def dump(value, indent=""):
    """Returns JSON with a line for each list of numbers."""
    if isinstance(value, dict):
        items = [f"{indent}  {json.dumps(name)}: {dump(item, indent + '  ')}" for name, item in value.items()]
        return "{\n" + ",\n".join(items) + f"\n{indent}}}"
    if isinstance(value, list) and value and isinstance(value[0], list):
        return "[\n" + ",\n".join(f"{indent}  {dump(item, indent + '  ')}" for item in value) + f"\n{indent}]"
    return json.dumps(value)


if __name__ == "__main__":
    main([Path(folder).resolve() for folder in sys.argv[1:]])
