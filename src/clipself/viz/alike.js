// For each map a canvas: the picture in grey, and over it how alike every patch is to the one below the pointer.
const bytes = (text) => Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));

function build() {
  const holder = element.querySelector(".alike");
  holder.replaceChildren();
  if (!props.value) return;
  const told = JSON.parse(props.value);
  const colours = bytes(told.colours);
  const picture = new Image();
  const panels = told.maps.map((map) => {
    const canvas = document.createElement("canvas");
    [canvas.width, canvas.height] = told.size;
    const caption = document.createElement("figcaption");
    caption.textContent = map.title;
    const figure = document.createElement("figure");
    figure.append(caption, canvas);
    holder.append(figure);
    return { ...map, canvas, cosines: bytes(map.cosines) };
  });

  function paint(panel, across, down) {
    const [rows, cols] = panel.grid;
    const row = Math.min(rows - 1, Math.floor(down * rows));
    const col = Math.min(cols - 1, Math.floor(across * cols));
    const small = new ImageData(cols, rows);
    const first = (row * cols + col) * rows * cols;
    for (let place = 0; place < rows * cols; place++) {
      const colour = 3 * panel.cosines[first + place];
      small.data.set([colours[colour], colours[colour + 1], colours[colour + 2], 255], 4 * place);
    }
    const heat = document.createElement("canvas");
    [heat.width, heat.height] = [cols, rows];
    heat.getContext("2d").putImageData(small, 0, 0);
    const { canvas } = panel;
    const pen = canvas.getContext("2d");
    pen.filter = "grayscale(1)";
    pen.drawImage(picture, 0, 0, canvas.width, canvas.height);
    pen.filter = "none";
    pen.globalAlpha = 0.6;
    pen.imageSmoothingQuality = "high";
    pen.drawImage(heat, 0, 0, canvas.width, canvas.height);
    pen.globalAlpha = 1;
    const [width, height] = [canvas.width / cols, canvas.height / rows];
    for (const [colour, line] of [["black", 4], ["white", 2]]) {
      pen.strokeStyle = colour;
      pen.lineWidth = line;
      pen.strokeRect(col * width, row * height, width, height);
    }
    canvas.dataset.patch = `${row},${col}`;
  }

  function point(event) {
    const frame = event.currentTarget.getBoundingClientRect();
    const across = (event.clientX - frame.left) / frame.width;
    const down = (event.clientY - frame.top) / frame.height;
    panels.forEach((panel) => paint(panel, Math.max(0, across), Math.max(0, down)));
  }
  picture.onload = () => panels.forEach((panel) => paint(panel, 0.5, 0.5));
  picture.src = told.picture;
  panels.forEach(({ canvas }) => {
    canvas.addEventListener("pointermove", point);
    canvas.addEventListener("pointerdown", point);
  });
}

watch("value", build);
build();
