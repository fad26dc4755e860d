"""`basicsr demo`: a web page that deblurs photographs."""

import argparse

HELP = 'serve a web page on this computer that deblurs photographs'
EXAMPLES = """examples:
  basicsr demo
  basicsr demo --weights experiments/my_run/models/net_g_latest.safetensors deblur
  basicsr demo --host 0.0.0.0 --port 8000

Only this computer can open the page, unless --host is another address. The page requests nothing from other computers.
Uploaded photographs and results are deleted after an hour and when the command ends. Requires gradio:
pip install 'deeprftv2-plugin[web]'."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument(
        '--weights',
        nargs='+',
        metavar='FILE|NAME',
        help='checkpoints to choose from, as in basicsr deblur; default: the bundled weights, named deblur',
    )
    parser.add_argument('--device', help='cpu, or cuda:N for a GPU; default: a GPU if there is one')
    parser.add_argument(
        '--host',
        default='127.0.0.1',
        help='address to listen on; 0.0.0.0 lets other computers use the page, without a password; default: 127.0.0.1',
    )
    parser.add_argument('--port', type=int, default=7860, help='port to listen on; 0: any free port; default: 7860')
    parser.add_argument(
        '--max-size', type=int, default=200, metavar='MB', help='maximum size of an uploaded file; default: 200'
    )


def run(args: argparse.Namespace) -> None:
    """Serve the page until Ctrl-C.

    Raises:
        UserError: The arguments are not valid, or gradio is not installed.
    """
    from deeprftv2_plugin.checkpoints.sources import SHIPPED
    from deeprftv2_plugin.inference.restorer import load
    from deeprftv2_plugin.inference.web import serve

    def started(url: str) -> None:
        print(f'Open {url} in a browser. Press Ctrl-C to stop.', flush=True)

    restorers = {name: load(name, device=args.device) for name in args.weights or [SHIPPED]}
    serve(restorers, args.host, args.port, args.max_size, started)
