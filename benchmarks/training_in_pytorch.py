"""Takes a training step of VGG16 in PyTorch for each line of standard input; `benchmarks/training.py` starts it."""

import sys

import torch

CLASSES = 7


def main() -> None:
    """Answers each line with the loss of a step, in the precision that the argument names."""
    device, is_half = "cuda" if torch.cuda.is_available() else "cpu", sys.argv[1] != "float32"
    modules, channels = [], 3
    for block, (count, filters) in enumerate(((2, 64), (2, 128), (3, 256), (3, 512), (3, 512))):
        modules += [torch.nn.MaxPool2d(2)] if block else []
        for _ in range(count):
            modules += [torch.nn.Conv2d(channels, filters, 3, padding=1), torch.nn.ReLU(inplace=True)]
            channels = filters
    modules += [torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(), torch.nn.Linear(512, CLASSES)]
    network = torch.nn.Sequential(*modules).to(device, memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(network.parameters(), 1e-3, momentum=0.9, nesterov=True, weight_decay=5e-5)
    faces = torch.randn(16, 3, 224, 224, device=device).contiguous(memory_format=torch.channels_last)
    label = torch.zeros(1, dtype=torch.long, device=device)
    for _ in sys.stdin:
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast(device, torch.bfloat16, enabled=is_half):
            scores = network(faces)
        loss = torch.nn.functional.cross_entropy(torch.logsumexp(scores.float(), 0, keepdim=True), label)
        loss.backward()
        optimizer.step()
        print(loss.item(), flush=True)


if __name__ == "__main__":
    main()
